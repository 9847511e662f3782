"""The `installation` table: the prefix that separates a ledger's programs from others on the same broker."""

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import SQLAlchemyError

from scorebeat.core.errors import PrefixUnknown, UsageError, one_line
from scorebeat.db.schema import revisions
from scorebeat.db.schema.tables import installation


def own_prefix(connection: Connection) -> str:
    """The prefix in the ledger, which a setting may replace."""
    return str(connection.execute(select(installation.c.broker_prefix)).scalar_one())


def broker_prefix(engine: Engine) -> str:
    """The prefix of the broker's keys and channels of this ledger's programs. Raises PrefixUnknown."""
    try:
        with engine.connect() as connection:
            revisions.require_usable(connection)
            return own_prefix(connection)
    except (SQLAlchemyError, UsageError) as error:
        why = one_line(getattr(error, "orig", None) or error)
        raise PrefixUnknown(f"the ledger, which has the prefix of the broker's keys, cannot be read: {why}") from None
