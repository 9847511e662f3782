"""Sessions and servers that take no writes: they are noticed, replaced by new ones, and explained.

A failover leaves connections to a server that is a standby now. A session that began while
`default_transaction_read_only` was on stays read-only until it ends, even if the setting changes.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar

import psycopg2
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError, InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry

from scorebeat.core.events import emit
from scorebeat.db.connect import database_errors, session

IS_READ_ONLY = "SELECT current_setting('transaction_read_only')"
"""Returns `on` if a transaction that begins now could write nothing."""
OLDEST = 5.0
"""Seconds that a read-only session is kept: if all sessions are read-only, each is replaced no more often than this."""
FOR_A_QUERY = {"of_a_query": True}
"""Execution options of a statement with a user's SQL, whose transaction is read-only on purpose."""
FRESH = 10.0
"""Seconds after its last use in which a session is not checked for a single statement, whose failure costs nothing."""

_is_single: ContextVar[bool] = ContextVar("single", default=False)


@contextmanager
def single_statement() -> Iterator[None]:
    """A connection taken from the pool in this block is for one statement, which its caller repeats if it fails."""
    before = _is_single.set(True)
    try:
        yield
    finally:
        _is_single.reset(before)


@contextmanager
def snapshot(engine: Engine, patience: str, **options: bool) -> Iterator[Connection]:
    """One read-only snapshot of the database; a statement that takes longer than `patience` is cancelled.

    `options` are execution options of the connection.
    """
    with engine.connect() as connection:
        connection.execution_options(**options)
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{patience}'")
        yield connection


def replace_sessions(engine: Engine) -> None:
    """Let the engine's pool return no dead session, and no read-only one that is older than OLDEST.

    A write that fails in a read-only session invalidates the whole pool.
    """
    event.listen(engine, "connect", _record_opening)
    event.listen(engine, "checkout", _require_writable)
    event.listen(engine, "checkin", _record_use)
    event.listen(engine, "handle_error", _invalidate)


def why(connection: Connection) -> str | None:
    """Why new sessions like this one can write nothing, and what to do; None if they can write."""
    standby, read_only, source, database = connection.execute(
        text(
            "SELECT pg_is_in_recovery(), setting = 'on', source, current_database() FROM pg_settings"
            " WHERE name = 'default_transaction_read_only'"
        )
    ).one()
    if standby:
        return (
            "PostgreSQL takes no writes here: it is a standby, which replays what another server wrote. Work waits "
            "until SCOREBEAT_DATABASE_URL leads to the primary, or this server is promoted"
        )
    if read_only:
        return (
            f"PostgreSQL takes no writes: default_transaction_read_only is on for database {database!r} (set by "
            f"{source}). Work waits until it is off; then nothing has to be restarted"
        )
    return None


def _record_opening(_: DBAPIConnection, record: ConnectionPoolEntry) -> None:
    record.info["opened_at"] = time.monotonic()
    record.info["is_new"] = True


def _record_use(_: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
    record.info["used_at"] = time.monotonic()


def _require_writable(connection: DBAPIConnection, record: ConnectionPoolEntry, _: object) -> None:
    """Replaces SQLAlchemy's own ping, with as many round trips."""
    if record.info.pop("is_new", False):
        return
    if _is_single.get() and time.monotonic() - record.info.get("used_at", -FRESH) < FRESH:
        return
    try:
        # outside of a transaction, which would have to be ended
        with session.autocommit(connection), closing(connection.cursor()) as cursor:
            cursor.execute(IS_READ_ONLY)
            read_only = cursor.fetchall()[0][0] == "on"
    except psycopg2.Error as error:
        raise InvalidatePoolError(f"the session is dead: {error}") from error
    if read_only and time.monotonic() - record.info["opened_at"] > OLDEST:
        emit("database.read_only", logging.WARNING, reason="this session takes no writes; another one is opened")
        raise DisconnectionError("the session takes no writes")


def _invalidate(context: ExceptionContext) -> None:
    if not database_errors.is_wrong_session(context.original_exception):
        return
    options = dict(context.connection.get_execution_options()) if context.connection is not None else {}
    if context.execution_context is not None:
        options |= context.execution_context.execution_options
    # in a transaction that we made read-only, for the query of a job, a write is the query's fault
    if not options.keys() & FOR_A_QUERY.keys():
        context.is_disconnect = True
