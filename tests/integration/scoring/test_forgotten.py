"""A session that is cleaned in one round trip is as after DISCARD ALL, which would need one of its own."""

from collections.abc import Iterator
from contextlib import suppress

import adbc_driver_manager
import pytest
from adbc_driver_manager.dbapi import Connection as DataConnection
from sqlalchemy import Engine

from scorebeat.db.batch_io import columns
from scorebeat.db.connect.engine import autocommit, data_connection, forget, run

LEFT_BEHIND = (
    "SET TimeZone = 'Asia/Tokyo'",
    "SET my.own = 'x'",
    "SELECT pg_advisory_lock(7)",
    "CREATE TEMPORARY TABLE temporary_rows (x int)",
    "CREATE TEMPORARY SEQUENCE numbers",
    "SELECT nextval('numbers')",
    "PREPARE prepared AS SELECT 1",
    "DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 10)",
    "LISTEN channel",
    "SET ROLE pg_monitor",
)
STATE = """
SELECT 'setting', name, setting FROM pg_settings WHERE source = 'session'
UNION ALL SELECT 'own', coalesce(current_setting('my.own', true), ''), ''
UNION ALL SELECT 'lock', objid::text, mode FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
UNION ALL SELECT 'temporary', relname, '' FROM pg_class WHERE pg_table_is_visible(oid) AND relpersistence = 't'
UNION ALL SELECT 'prepared', name, statement FROM pg_prepared_statements WHERE name <> ''
UNION ALL SELECT 'cursor', name, statement FROM pg_cursors WHERE is_holdable
UNION ALL SELECT 'channel', channel, '' FROM pg_listening_channels() channel
UNION ALL SELECT 'who', current_user::text, session_user::text
ORDER BY 1, 2, 3
"""


@pytest.fixture
def session(engine: Engine) -> Iterator[DataConnection]:
    with data_connection(engine.url.render_as_string(hide_password=False)) as opened:
        yield opened


def _execute(session: DataConnection, *statements: str) -> None:
    with autocommit(session), session.cursor() as cursor:
        for statement in statements:
            run(cursor, statement)


def _state(session: DataConnection) -> list[tuple[object, ...]]:
    return _query(session, STATE)


def _query(session: DataConnection, question: str) -> list[tuple[object, ...]]:
    with session.cursor() as cursor:
        cursor.execute(question)
        found = cursor.fetchall()
    session.rollback()
    return [tuple(row) for row in found]


def test_a_cleaned_session_is_as_after_discard_all(session: DataConnection) -> None:
    clean = _state(session)
    _execute(session, *LEFT_BEHIND)
    dirty = _state(session)
    assert {row[0] for row in dirty} == {
        "setting", "own", "lock", "temporary", "prepared", "cursor", "channel", "who",
    }  # fmt: skip
    _execute(session, "DISCARD ALL")
    discarded = _state(session)
    _execute(session, *LEFT_BEHIND)
    assert _state(session) == dirty

    forget(session)

    assert _state(session) == discarded
    assert discarded == clean


def test_the_users_sql_is_not_run_outside_a_read_only_transaction(session: DataConnection, engine: Engine) -> None:
    ((backend,),) = _query(session, "SELECT pg_backend_pid()")
    with engine.begin() as connection:
        connection.exec_driver_sql(f"SELECT pg_terminate_backend({backend}, 10000)")

    with pytest.raises(adbc_driver_manager.Error):
        columns.begin_query(session)


@pytest.mark.parametrize("end", ["", " / (count(*) - count(*))"], ids=["a query that works", "a query that fails"])
def test_nothing_of_a_query_is_left_however_it_ends(session: DataConnection, end: str) -> None:
    clean = _state(session)
    assert columns.begin_query(session)

    with suppress(adbc_driver_manager.Error):
        columns.fetch_row_ids(session, f"SELECT count(pg_advisory_lock(7)){end}, NULL, NULL FROM generate_series(1, 1)")

    assert _state(session) == clean
