"""Connections to PostgreSQL: one way to open them, and one plain error if the server cannot be reached."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import adbc_driver_manager
import psycopg2.errors
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor, Dialect
from sqlalchemy.exc import InternalError, OperationalError, ProgrammingError
from sqlalchemy.pool import ConnectionPoolEntry

from scorebeat.core.errors import NotPermitted, ServiceDown, UsageError
from scorebeat.core.urls import redact
from scorebeat.db.connect import locks, pooler, read_only, session, user_sql

if TYPE_CHECKING:
    from adbc_driver_manager.dbapi import Connection as DataConnection
    from adbc_driver_manager.dbapi import Cursor

LOCK_TIMEOUT = "10s"
"""A statement of the control plane that waits longer for a lock gives up; the ledger repeats it."""
DATA_LOCK_TIMEOUT = "2s"
"""The same for a worker's commit: the process should score other jobs meanwhile. A fetch waits less: `locks`."""
CONFORMING = "standard_conforming_strings"
NETWORK = {
    # a half-open socket is noticed after about half a minute
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}


def make_engine(url: str, name: str = "scorebeat", *, pool_size: int = 2, patience: str | None = None) -> Engine:
    """The control plane's engine; connects when first used. A statement that takes longer than `patience` is ended.

    Its sessions have the settings that our own statements need; the user's SQL goes through `db.connect.user_sql`.
    """
    parsed = make_url(url).set(drivername="postgresql+psycopg2")
    ours = {
        "application_name": name,
        "client_encoding": session.ENCODING,
        "options": session.options(parsed, {"lock_timeout": LOCK_TIMEOUT}),
    }
    engine = create_engine(
        parsed,
        connect_args={**ours, **NETWORK},
        pool_size=pool_size,
        max_overflow=2,
        execution_options={"no_parameters": True},  # a `%` in a user's query stays a `%`
    )
    event.listen(engine, "do_connect", partial(_open_session, patience))
    read_only.replace_sessions(engine)
    return engine


@contextmanager
def one_statement(engine: Engine) -> Iterator[Connection]:
    """A connection of the control plane for a single statement, which is a transaction by itself.

    Its caller repeats it, or does without, if it fails: a session that was just used is not checked before.
    """
    with read_only.single_statement():
        opened = engine.connect()
    with opened as connection, session.autocommit(connection.connection.driver_connection):
        yield connection


def data_connection(url: str, name: str = "scorebeat") -> "DataConnection":
    """An ADBC connection for columns of rows; a transaction begins with its first statement.

    Its session has the user's settings. Statements of ours over it are written so that they depend on none.
    """
    import adbc_driver_postgresql.dbapi  # noqa: PLC0415 -- imports pandas, a second that most commands do not need

    parsed = make_url(url)
    options = session.options(parsed, {"lock_timeout": DATA_LOCK_TIMEOUT})
    ours = {"application_name": name, "client_encoding": session.ENCODING, "options": options}
    try:
        opened: DataConnection = adbc_driver_postgresql.dbapi.connect(address(parsed, {**ours, **NETWORK}))
        forget(opened)  # a pooler that drops settings here fails the check below
        with closing(opened.cursor()) as cursor:
            _checked_settings(cursor)
        opened.rollback()
    except adbc_driver_manager.Error as error:
        raise ServiceDown(unreachable(url, str(error))) from None
    return opened


def address(url: URL, more: Mapping[str, str] | None = None) -> str:
    """The URL as libpq reads it, with more parameters."""
    uri = url.set(drivername="postgresql").update_query_dict(dict(more or {}))
    server, _, query = uri.render_as_string(hide_password=False).partition("?")
    # libpq does not read `+` as a space, nor a space in a name or password, which SQLAlchemy leaves
    return f"{server.replace(' ', '%20')}?{query.replace('+', '%20')}" if query else server.replace(" ", "%20")


FORGOTTEN = (
    "ROLLBACK", "CLOSE ALL", "SET SESSION AUTHORIZATION DEFAULT", "RESET ALL", "DEALLOCATE ALL", "UNLISTEN *",
    "SELECT pg_catalog.pg_advisory_unlock_all()", "DISCARD PLANS", "DISCARD TEMP", "DISCARD SEQUENCES",
)  # fmt: skip
"""The parts of DISCARD ALL by PostgreSQL's manual; DISCARD ALL itself shares no round trip, not even with ROLLBACK."""


def forget(connection: "DataConnection") -> None:
    """Undo the open transaction, and all that the user's SQL left in the session: settings, locks, statements."""
    with connection.cursor() as cursor:
        run(cursor, "; ".join(FORGOTTEN))


def run(cursor: "Cursor", statement: str) -> int:
    """Run a statement in one round trip, where `execute` takes three.

    Returns the number of rows that it wrote or found; -1 if the driver does not know.
    """
    cursor.adbc_statement.set_sql_query(statement)
    return int(cursor.adbc_statement.execute_update())


def begin(connection: "DataConnection", statement: str) -> int:
    """Begin a transaction with this statement, in one round trip instead of two. Returns the result of `run`."""
    with autocommit(connection), connection.cursor() as cursor:
        return run(cursor, f"BEGIN; {statement}")


@contextmanager
def autocommit(connection: "DataConnection") -> Iterator[None]:
    """The driver begins and ends no transaction in the block: the block's own statements do, without more round trips.

    No transaction may be open when the block begins: the driver would commit it.
    """
    connection.adbc_connection.set_autocommit(True)
    try:
        yield
    finally:
        connection.adbc_connection.set_autocommit(False)


def _open_session(
    patience: str | None,
    dialect: Dialect,
    record: ConnectionPoolEntry,
    arguments: tuple[Any, ...],
    parameters: dict[str, Any],
) -> DBAPIConnection:
    """A session with the settings of our own statements; those that the user has otherwise are kept in its `info`.

    `patience` is set in the session: a pooler drops `options`, and the pooler's role has no limit of its own.
    """
    opened = dialect.connect(*arguments, **parameters)
    found = _settings_of(opened)
    if found.now[CONFORMING] != session.STATEMENTS[CONFORMING]:
        # psycopg2 decides once, when it connects, how it quotes
        opened.close()
        conforming = f"{parameters['options']} -c {CONFORMING}={session.STATEMENTS[CONFORMING]}"
        opened = dialect.connect(*arguments, **{**parameters, "options": conforming})
        if _settings_of(opened).now[CONFORMING] != session.STATEMENTS[CONFORMING]:
            raise ServiceDown(
                f"a pooler before PostgreSQL keeps {CONFORMING} off, with which keys would be read wrongly. "
                f"{session.WHAT_TO_DO}"
            )
    ours = {name: value for name, value in session.STATEMENTS.items() if found.now[name] != value}
    if patience is not None:
        ours |= {"statement_timeout": patience, "lock_timeout": locks.FOR_A_PERSON}
    if ours:
        with closing(opened.cursor()) as cursor:
            cursor.execute(f"SELECT {user_sql.settings(ours, local=False)}")
        opened.commit()
    record.info[user_sql.SETTINGS] = session.users_values(found)
    return opened


def _settings_of(opened: DBAPIConnection) -> session.SessionSettings:
    with closing(opened.cursor()) as cursor:
        found = _checked_settings(cursor)
    opened.rollback()
    return found


def _checked_settings(cursor: "DBAPICursor | Cursor") -> session.SessionSettings:
    """The settings of a new session. Raises ServiceDown if our statements would mean something else in it."""
    cursor.execute(session.QUESTION)
    found = session.read_settings(cursor.fetchall())
    session.require_ours(found)
    statement = session.find_shadows(found)
    if statement is not None:
        cursor.execute(session.SAFE_PATH)
        cursor.execute(statement)
        session.require_own_names(found, cursor.fetchone())
    return found


@contextmanager
def reachable(url: str) -> Iterator[None]:
    """In the block, a refused connection raises ServiceDown, one line without the password.

    A right that our role lacks raises NotPermitted.
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
            f"{unreachable(url, str(error.orig))} `scorebeat check` shows why it takes no writes."
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
        "`prune` want the URL of the role that owns the ledger. If a run was refused, let that role run "
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
