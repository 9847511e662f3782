"""Connections to PostgreSQL: one way to open them, and one plain error when it is not there."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial

import adbc_driver_manager
import adbc_driver_postgresql.dbapi
import psycopg2.errors
from adbc_driver_manager.dbapi import Connection as DataConnection
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InternalError, OperationalError, ProgrammingError

from scorebeat.core.errors import NotPermitted, ServiceDown, UsageError
from scorebeat.core.urls import redact
from scorebeat.db import locks, pooler, read_only

SESSION = {
    # a client that died with a transaction open gives its locks back
    "idle_in_transaction_session_timeout": "60s",
    # so does one that died while a statement of its waits or runs: PostgreSQL would only notice at its end
    "client_connection_check_interval": "2s",
    # and one whose host is gone or cut off, about half a minute later
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30s",
    # planning cursors and batches are many small index scans: workers and compilation only add delay
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    # keys are stored as text and cast back: one way to write them
    "timezone": "UTC",
    "datestyle": "ISO",
    "extra_float_digits": "1",
}
LOCK_TIMEOUT = "10s"
"""A statement of the control plane that waits longer for a lock gives up; the ledger repeats it."""
DATA_LOCK_TIMEOUT = "2s"
"""So does a worker's commit: the process is to score other jobs meanwhile. A fetch waits less, see `db.locks`."""
NETWORK = {
    # a half-open socket is noticed after about half a minute
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}


def make_engine(url: str, name: str = "scorebeat", *, pool_size: int = 2, patience: str | None = None) -> Engine:
    """The control plane's engine; connects when first used. A statement that takes longer than `patience` is ended."""
    options = f"{_options()} -c lock_timeout={LOCK_TIMEOUT}"
    engine = create_engine(
        make_url(url).set(drivername="postgresql+psycopg2"),
        connect_args={"application_name": name, "options": options, **NETWORK},
        pool_size=pool_size,
        max_overflow=2,
        execution_options={"no_parameters": True},  # a `%` in a user's query stays a `%`
    )
    event.listen(engine, "connect", _require_settings)
    read_only.replace_sessions(engine)
    if patience is not None:
        event.listen(engine, "connect", partial(_bound_statements, patience))
    return engine


def data_connection(url: str, name: str = "scorebeat") -> DataConnection:
    """An ADBC connection for columns of rows; a transaction begins with its first statement."""
    uri = make_url(url).set(drivername="postgresql")
    options = f"{_options()} -c lock_timeout={DATA_LOCK_TIMEOUT}"
    uri = uri.update_query_dict({"application_name": name, "options": options, **NETWORK})
    server, _, query = uri.render_as_string(hide_password=False).partition("?")
    try:
        # libpq does not read `+` as a space, nor a space in a name or password, which SQLAlchemy leaves
        address = f"{server.replace(' ', '%20')}?{query.replace('+', '%20')}"
        opened: DataConnection = adbc_driver_postgresql.dbapi.connect(address)
        _require_settings(opened)
    except adbc_driver_manager.Error as error:
        raise ServiceDown(unreachable(url, str(error))) from None
    return opened


def _require_settings(opened: DBAPIConnection | DataConnection, _: object = None) -> None:
    """Raises ServiceDown where a pooler dropped what the new session was told to be."""
    with closing(opened.cursor()) as cursor:
        cursor.execute(pooler.QUESTION)
        found = cursor.fetchall()
    opened.rollback()
    pooler.require_settings(found[0], SESSION)


def _bound_statements(patience: str, opened: DBAPIConnection, _: object) -> None:
    """Told to the session itself: a pooler drops what `options` say, and its role has no bound of its own."""
    with closing(opened.cursor()) as cursor:
        cursor.execute(f"SET statement_timeout = '{patience}'; SET lock_timeout = '{locks.FOR_A_PERSON}'")
    opened.commit()


def is_alive(connection: DataConnection) -> bool:
    """The server still answers over this connection, which has no transaction open, and takes writes."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(read_only.IS_READ_ONLY)
            found = cursor.fetchall()
        connection.rollback()
    except adbc_driver_manager.Error:
        return False
    return bool(found[0][0] == "off")


@contextmanager
def reachable(url: str) -> Iterator[None]:
    """Turns a refused connection within the block into ServiceDown, one line, without the password.

    And a right that our role lacks into NotPermitted.
    """
    try:
        yield
    except ProgrammingError as error:
        if not isinstance(error.orig, psycopg2.errors.InsufficientPrivilege):
            raise
        raise not_permitted(make_url(url).username, error.orig) from None
    except InternalError as error:
        if not error.connection_invalidated:
            raise
        raise ServiceDown(
            f"{unreachable(url, str(error.orig))} `scorebeat check` says why it takes no writes."
        ) from None
    except OperationalError as error:
        if not error.connection_invalidated and error.statement is not None:
            raise
        raise ServiceDown(unreachable(url, str(error.orig))) from None


def not_permitted(role: str | None, error: object) -> NotPermitted:
    """The error for a statement that PostgreSQL refused to our role."""
    who = f"the role {role!r}" if role else "our role"
    return NotPermitted(
        f"PostgreSQL refused this to {who} of SCOREBEAT_DATABASE_URL: {str(error).splitlines()[0].strip()}. "
        "The transaction was undone. `migrate`, `apply`, `models add`, `models drop`, `publish`, `rollback` and "
        "`prune` want the URL of the role that owns the ledger. If a run was refused, let that role say "
        f"`scorebeat migrate --run-role {role or 'NAME'}`."
    )


def unreachable(url: str, reason: str) -> str:
    parsed = make_url(url)
    line = " ".join(reason.split())
    if parsed.password:
        line = line.replace(str(parsed.password), "***")
    return f"PostgreSQL at {redact(parsed.render_as_string(hide_password=True))} cannot be used: {line}. " + (
        pooler.advice(line) or "Check SCOREBEAT_DATABASE_URL and that the server runs; nothing was changed."
    )


def require_version(engine: Engine, least: int = 15) -> None:
    with engine.connect() as connection:
        version = connection.exec_driver_sql("SHOW server_version_num").scalar_one()
    if int(version) // 10_000 < least:
        raise UsageError(f"PostgreSQL {int(version) // 10_000} is too old: Scorebeat needs {least} or newer")


def _options() -> str:
    return " ".join(f"-c {name}={value}" for name, value in SESSION.items())
