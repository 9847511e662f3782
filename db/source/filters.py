"""Checks of what `enqueue` may select among the pending rows, before a run is opened: a filter, a list of keys."""

from collections.abc import Sequence

import adbc_driver_manager
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import SourceLocked, UsageError, shortened
from scorebeat.core.jobs.job import LONGEST_QUERY
from scorebeat.db.connect import database_errors, locks, user_sql
from scorebeat.db.connect.engine import data_connection
from scorebeat.db.connect.sql import Key, among, subquery
from scorebeat.db.source.source import Source


def require_filter(connection: Connection, url: str, source: Source, where: str, name: str = "--where") -> None:
    """Raises UsageError unless `where` is one condition over the query's columns; messages show it as `name`.

    It is only parsed, once in round and once in square brackets: a text that closes one kind cannot close the other.
    """
    if len(where.encode("utf-8", "replace")) > LONGEST_QUERY:
        raise UsageError(
            f"{name} has {len(where):,} characters; expected at most {LONGEST_QUERY:,} bytes, which each batch sends "
            "with its query. Nothing was enqueued; name the rows by their keys"
        )
    if "\0" in where:
        raise UsageError(f"{name} holds a NUL character, which PostgreSQL refuses; leave it out")
    if not where.strip():
        raise UsageError(f"{name} is empty; expected a condition over the query's columns, such as 'id < 100'")
    condition = f"SELECT 1 FROM {subquery(source.query)} WHERE (\n{where}\n)"
    with data_connection(url, "scorebeat check") as parser, parser.cursor() as cursor:
        for statement in (condition, f"SELECT ARRAY[\n{where}\n] FROM {subquery(source.query)}"):
            try:
                cursor.adbc_execute_schema(statement)
            except adbc_driver_manager.Error as error:
                parser.rollback()
                if database_errors.is_lock(error):
                    raise SourceLocked(f"{name} {_shown(where)} {locks.waits_for(connection, source.query)}") from None
                raise UsageError(_refused(name, where, str(error))) from None
    try:
        with connection.begin_nested():
            user_sql.rows(connection, f"EXPLAIN {condition}")
    except DBAPIError as error:
        if database_errors.is_transient(error):
            raise
        raise UsageError(_refused(name, where, str(error.orig))) from None


def first_bad_key(connection: Connection, source: Source, keys: Sequence[Key]) -> tuple[int, str] | None:
    """Index in `keys` of the first text that cannot be a key, and PostgreSQL's reason; None if all can."""
    reason = _reason_against(connection, source, keys)
    if reason is None:
        return None
    low, high = 0, len(keys)  # the first bad one is in keys[low:high]
    while high - low > 1:
        middle = (low + high) // 2
        found = _reason_against(connection, source, keys[low:middle])
        low, high, reason = (low, middle, found) if found else (middle, high, reason)
    return low, _reason_against(connection, source, keys[low:high]) or reason


def _reason_against(connection: Connection, source: Source, keys: Sequence[Key]) -> str | None:
    try:
        with connection.begin_nested():
            user_sql.rows(
                connection, f"SELECT 1 FROM {subquery(source.query)} WHERE {among(source.keys, 'q', keys)} LIMIT 0"
            )
    except DBAPIError as error:
        if database_errors.is_transient(error):
            raise  # no key is to blame
        return str(error.orig).splitlines()[0].strip()
    return None


def _shown(where: str) -> str:
    return shortened(repr(where), 500)


def _refused(name: str, where: str, message: str) -> str:
    line = next((part for part in message.splitlines() if "ERROR:" in part), message.splitlines()[0])
    return (
        f"{name} {_shown(where)} is not one condition that PostgreSQL can check: {line.split('ERROR:')[-1].strip()}. "
        "Expected an expression over the query's columns, such as 'id < 100'; nothing was enqueued."
    )
