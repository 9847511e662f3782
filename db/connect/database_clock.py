"""The database's clock, the only one: hosts may disagree about the time."""

from datetime import datetime

from sqlalchemy import Connection, func, select


def now(connection: Connection) -> datetime:
    """The time of this statement, not of its transaction."""
    return connection.execute(select(func.clock_timestamp())).scalar_one()  # type: ignore[no-any-return]  # a datetime
