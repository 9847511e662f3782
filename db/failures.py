"""Which errors of the database pass by themselves, and which will come back at every attempt."""

import adbc_driver_manager
import psycopg2
from sqlalchemy.exc import DBAPIError

from scorebeat.db.columns import sqlstate

TRANSIENT_CLASSES = ("08", "25P03", "25P04", "40", "53", "55P03", "57014", "57P")
"""Connection lost, a session or statement ended from outside or by a timeout (25P03, 25P04, 57014), serialisation and
deadlock, out of resources, a lock not had in time, server shutting down."""
PERMANENT = ("08P01", "22P03")
"""From an ingest these say that bytes and column do not fit: no other attempt mends that."""


def is_transient(error: BaseException) -> bool:
    """Another attempt may succeed. The SQLSTATE decides; where there is none, whether the connection is to blame.

    A refusal to connect has none, whatever the server said: too many clients, starting up, recovering.
    """
    original = error.orig if isinstance(error, DBAPIError) else error
    if original is None:
        return True
    state = sqlstate(original)
    if state is not None:
        return state.startswith(TRANSIENT_CLASSES) and state not in PERMANENT
    if isinstance(original, adbc_driver_manager.Error):
        return original.status_code == adbc_driver_manager.AdbcStatusCode.IO
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    return lost or isinstance(original, psycopg2.OperationalError)


def is_about_values(error: BaseException) -> bool:
    """A row's value cannot be computed or stored: classes 22 (data) and 54 (too large), but not 22P03."""
    original = error.orig if isinstance(error, DBAPIError) else error
    state = sqlstate(original) if original is not None else None
    return state is not None and state.startswith(("22", "54")) and state not in PERMANENT


def is_database_error(error: BaseException) -> bool:
    return isinstance(error, (DBAPIError, adbc_driver_manager.Error))


def breaks_connection(error: BaseException) -> bool:
    """The connection is not to be used again."""
    if isinstance(error, adbc_driver_manager.Error):
        state = sqlstate(error)
        return error.status_code == adbc_driver_manager.AdbcStatusCode.IO or bool(
            state and state.startswith(("08", "25P03", "25P04", "57P"))
        )
    return False
