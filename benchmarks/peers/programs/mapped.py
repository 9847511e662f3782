"""The database's tables as classes of SQLAlchemy's ORM."""

from typing import Any

from sqlalchemy import Engine
from sqlalchemy.ext.automap import automap_base


def mapped(engine: Engine) -> Any:
    """A class for each table, by the table's name."""
    base = automap_base()
    base.prepare(engine)
    return base.classes
