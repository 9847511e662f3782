"""The connection of a worker's parent to the ledger: opened for one transaction, then closed."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from scorebeat.core.data_folder import joined
from scorebeat.core.process.identity import worker_name
from scorebeat.core.settings import load_settings
from scorebeat.db.connect.engine import make_engine


@contextmanager
def ledger() -> Iterator[Connection]:
    """One transaction, over a connection that is then closed. Raises DBAPIError if the database cannot be reached."""
    engine = make_engine(joined(load_settings()).database(), f"scorebeat {worker_name()}", pool_size=1)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()
