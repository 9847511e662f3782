"""Running the user's SQL over psycopg2: one statement, under the user's settings, in a session that is not reused.

psycopg2 sends a text that may hold several statements, and settings decide what separates them. So the text goes as a
quoted value to PL/pgSQL, which opens a cursor for one statement and refuses several. A session in which the user's SQL
ran leaves its pool: advisory locks, temporary objects and a random seed end with it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, CursorResult

from scorebeat.db.connect import read_only, session
from scorebeat.db.connect.sql import literal

SETTINGS = "settings of the user"
"""Key in a connection's `info`: settings of `session.STATEMENTS` for which the user has other values."""
_ALONE = "is out of its pool"
_STAY = "settings of the user stay"
_ONE = "users_sql"
_USUAL_PATH = '"$user", public'
FOR_ALL_ROWS = {"cursor_tuple_fraction": "1"}
FOR_FIRST_ROWS = {"cursor_tuple_fraction": "0.1"}


def rows(connection: Connection, statement: str) -> list[tuple[Any, ...]]:
    """All rows of one statement that contains the user's SQL. Raises DBAPIError, also if it is more than one."""
    return [tuple(row) for row in _run(connection, statement, "ALL")]


def plan(connection: Connection, statement: str, options: str = "") -> dict[str, Any]:
    """The uppermost node of PostgreSQL's plan for the statement; `options` of EXPLAIN, such as `, VERBOSE`."""
    explained: list[dict[str, Any]] = rows(connection, f"EXPLAIN (FORMAT JSON{options}) {statement}")[0][0]
    top: dict[str, Any] = explained[0]["Plan"]
    return top


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A node of a plan and all below it."""
    yield node
    for below in node.get("Plans", ()):
        yield from nodes(below)


def describe(connection: Connection, query: str) -> CursorResult[Any]:
    """A result without rows, for the columns of the query."""
    return _run(connection, query, "0")


def open_cursor(connection: Connection, name: str, statement: str, wanted: Mapping[str, str] = FOR_FIRST_ROWS) -> None:
    """Declare a cursor to FETCH from until the transaction ends; until then the session has the user's settings.

    `wanted` is `FOR_FIRST_ROWS` if the first rows should come soon, `FOR_ALL_ROWS` if all should.
    """
    _declare(connection, name, statement, wanted)
    connection.info[_STAY] = True


def create_table(connection: Connection, table: str, select: str) -> None:
    """CREATE TABLE AS for a SELECT that contains the user's SQL, without its rows."""
    made = f"CREATE TABLE {table} AS {select} WITH NO DATA"
    # EXECUTE takes several statements; the cursor before it, from which nothing is read, refuses them
    _declare(connection, _ONE, select, {}, f" CLOSE c; EXECUTE {literal(made)};")
    _restore_ours(connection)


def store_rows(connection: Connection, table: str, select: str) -> None:
    """Insert the rows of a SELECT that contains the user's SQL, which can write nothing, into a table for it."""
    stored = f"INSERT INTO {table} SELECT * FROM scorebeat.rows_read_only({literal(select)}, NULL::{table})"
    # EXECUTE takes several statements; the cursor before it, from which nothing is read, refuses them
    _declare(connection, _ONE, select, FOR_ALL_ROWS, f" CLOSE c; EXECUTE {literal(stored)};")
    _restore_ours(connection)


def page(connection: Connection, query: str, what: str, rest: str) -> str:
    """A statement that computes all rows of `query`, named q, under the user's settings, and `what` under ours."""
    differing = connection.info.get(SETTINGS, {})
    if not differing:
        return f"WITH q AS MATERIALIZED (\n{query}\n) SELECT {what} FROM q{rest}"
    ours = settings({name: session.STATEMENTS[name] for name in differing})
    return (
        f"WITH q AS MATERIALIZED (\n{query}\n), ours AS MATERIALIZED (SELECT {ours} FROM (SELECT count(*) FROM q) AS c)"
        f" SELECT {what} FROM ours CROSS JOIN q{rest}"
    )


def settings_in_words(connection: Connection) -> str:
    """The time zone of the user's SQL; also its search path and other settings if they are unusual."""
    theirs = dict(connection.info.get(SETTINGS, {}))
    zone = theirs.pop("TimeZone", session.STATEMENTS["TimeZone"])
    path = str(connection.exec_driver_sql("SELECT current_setting('search_path')").scalar_one())
    if path != _USUAL_PATH:
        theirs["search_path"] = path
    others = "".join(f", {name} = {value}" for name, value in theirs.items())
    return f"the time zone {zone}{others}"


def _run(connection: Connection, statement: str, count: str) -> CursorResult[Any]:
    _declare(connection, _ONE, statement, FOR_ALL_ROWS)
    result = connection.exec_driver_sql(f"FETCH {count} FROM {_ONE}", execution_options=read_only.FOR_A_QUERY)
    connection.exec_driver_sql(f"CLOSE {_ONE}")
    _restore_ours(connection)
    return result


def _declare(connection: Connection, name: str, statement: str, more: Mapping[str, str], then: str = "") -> None:
    if not connection.info.get(_ALONE):
        connection.detach()
        connection.info[_ALONE] = True
    users = settings({**connection.info.get(SETTINGS, {}), **more})
    begin = f"PERFORM {users};" if users else ""
    body = (
        f"DECLARE c refcursor := {literal(name)};"
        f" BEGIN {begin} OPEN c NO SCROLL FOR EXECUTE {literal(statement)};{then} END"
    )
    connection.exec_driver_sql(f"DO {literal(body)}", execution_options=read_only.FOR_A_QUERY)


def _restore_ours(connection: Connection) -> None:
    """Restore our settings for our statements. After an error the end of the transaction or savepoint does."""
    differing = connection.info.get(SETTINGS, {})
    if differing and not connection.info.get(_STAY):
        connection.exec_driver_sql(f"SELECT {settings({name: session.STATEMENTS[name] for name in differing})}")


def settings(values: Mapping[str, str], *, local: bool = True) -> str:
    """SQL expressions that set these settings until the transaction ends, or the session if not `local`."""
    how = "true" if local else "false"
    return ", ".join(f"set_config({literal(name)}, {literal(value)}, {how})" for name, value in values.items())
