"""Ticks that cost what changed: a plan begins at a watermark, and no row is missed by it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, make_url, text

from scorebeat.core.errors import UsageError
from scorebeat.core.jobs.job import Job
from scorebeat.db.connect.engine import make_engine
from scorebeat.db.ledger.runs import Selection
from scorebeat.db.source.selection import open_transactions
from scorebeat.producer.control.plan import plan
from scorebeat.producer.planning import explanation, planned_rows
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.producer.requests.preview import preview
from scorebeat.producer.requests.requeue import cancel, requeue
from scorebeat.producer.versions import publish
from tests.support.poison_fixtures import Points, assert_accounted, points
from tests.support.roles_fixtures import LockedPoints, locked, roles

pytestmark = pytest.mark.wide

__all__ = ["locked", "points", "roles"]

QUERY = "SELECT id, x, at FROM points"
INSERT = "INSERT INTO points (id, x) VALUES (:id, :x)"
CHANGE = "UPDATE points SET x = :x, at = DEFAULT WHERE id = :id"
NOW = "timestamptz DEFAULT now()"
END = "UPDATE scorebeat.batches SET state = {}, finished_at = now(), sent_at = NULL WHERE run_id = :run"
KINDS = [NOW, "timestamp DEFAULT now()", "timestamptz DEFAULT clock_timestamp()"]
NUMBERS = {"changed_at": None, "cursor": "number", "query": "SELECT id, x, number FROM points"}
"""A job that follows a column that only new rows fill, from a sequence."""


def watched(points: Points, kind: str = NOW, **options: Any) -> Job:
    """20 points whose column `at` PostgreSQL sets, all scored, and a job that follows it and has a watermark."""
    points.fill(20)
    points.sql(f"ALTER TABLE points ADD COLUMN at {kind}")
    points.sql("ALTER TABLE points ADD COLUMN number bigserial")
    points.sql("CREATE INDEX ON points (at)")
    points.model({})
    job = points.job(**{"query": QUERY, "changed_at": "at", **options})
    for _ in range(3):  # a watermark of numbers is known when the run before has seen them
        points.scored(job)
    return job


def ran(points: Points, run_id: int, what: str = "compared_from IS NOT NULL") -> Any:
    return points.sql(f"SELECT {what} FROM scorebeat.runs WHERE id = :id", id=run_id)[0]


def rows_of(points: Points, run_id: int) -> int:
    return sum(points.batches(run_id, "rows_scored"))


def ticked(points: Points, job: Job) -> int:
    """The rows of a run that began at a watermark."""
    run = points.scored(job)
    assert ran(points, run), "the run compared every key"
    return rows_of(points, run)


@contextmanager
def writing(points: Points, statement: str, **values: Any) -> Iterator[Connection]:
    """Another session in a transaction that has run the statement; it is open until the caller ends it."""
    with points.engine.connect() as connection:
        connection.execute(text(statement), values)
        yield connection
        connection.rollback()


def without_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if sessions reported each transaction at once, so that only the order of the two readings counts."""
    monkeypatch.setattr(open_transactions, "UNREPORTED", timedelta(0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_tick_begins_at_the_watermark_and_finds_new_and_changed_rows(points: Points, kind: str) -> None:
    job = watched(points, kind)
    points.sql(INSERT, id=21, x=21.5)
    points.sql(CHANGE, id=7, x=107.5)

    assert ticked(points, job) == 2

    assert_accounted(points.engine, job, {})


@pytest.mark.wide(quick=4)
@pytest.mark.parametrize(
    ("kind", "options"), [(KINDS[0], {}), (KINDS[1], {}), (KINDS[2], {}), (NOW, NUMBERS)], ids=[*KINDS, "numbers"]
)
def test_a_row_that_becomes_visible_after_later_ones_were_scored_is_found(
    points: Points, kind: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_margin(monkeypatch)
    job = watched(points, kind, **options)
    with writing(points, INSERT, id=21, x=21.5) as late:
        for number in (22, 23, 24):
            points.sql(INSERT, id=number, x=number + 0.5)
            assert ticked(points, job) == 1
        late.commit()

    assert ticked(points, job) == 1
    assert_accounted(points.engine, job, {})


@pytest.mark.quick
def test_a_transaction_that_commits_just_before_the_snapshot_is_not_lost(
    points: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = watched(points)
    without_margin(monkeypatch)
    read_pending = planned_rows.pending_rows
    with writing(points, INSERT, id=21, x=21.5) as late:

        def pending(*arguments: Any) -> Any:
            late.commit()  # the snapshot of the plan was taken by now, and does not show it
            return read_pending(*arguments)

        monkeypatch.setattr(planned_rows, "pending_rows", pending)
        assert ticked(points, job) == 0

    monkeypatch.setattr(planned_rows, "pending_rows", read_pending)
    assert ticked(points, job) == 1
    assert_accounted(points.engine, job, {})


@pytest.mark.wide(quick=3)
@pytest.mark.parametrize(
    "options", [{}, {"lookback": timedelta(seconds=1)}, NUMBERS], ids=["times", "with lookback", "numbers"]
)
def test_while_a_transaction_is_prepared_the_watermark_stays(
    points: Points, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_margin(monkeypatch)
    job = watched(points, **options)
    before = ran(points, points.scored(job), "watermark")
    with points.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
        for statement in ("BEGIN", "INSERT INTO points (id, x) VALUES (21, 21.5)", "PREPARE TRANSACTION 'points'"):
            other.exec_driver_sql(statement)
        try:
            for number in (22, 23):
                points.sql(INSERT, id=number, x=number + 0.5)
                run = points.scored(job)
                assert ran(points, run, "watermark") == before
        finally:
            other.exec_driver_sql("COMMIT PREPARED 'points'")

    assert ticked(points, job) == 1
    assert_accounted(points.engine, job, {})


@pytest.mark.wide(quick=3)
@pytest.mark.parametrize("value", ["NULL", "'-infinity'", "'infinity'"])
def test_a_row_without_a_value_is_found_by_each_tick(points: Points, value: str) -> None:
    job = watched(points)
    points.sql(f"INSERT INTO points (id, x, at) VALUES (21, 21.5, {value})")

    assert ticked(points, job) == 1
    assert ticked(points, job) == 0
    assert_accounted(points.engine, job, {})


def _is_cancelled(points: Points, job: Job) -> None:
    cancel(points.producer, points.planned(job), "ann")


def _has_a_dead_batch(points: Points, job: Job) -> None:
    run = points.planned(job)
    points.sql(END.format("'dead', error = 'gone'"), run=run)
    points.work(run)


def _is_cut(points: Points, job: Job) -> None:
    run = points.planned(job)
    points.sql("UPDATE scorebeat.runs SET plan_is_whole = false WHERE id = :id", id=run)
    points.sql(END.format("'cancelled'"), run=run)
    points.work(run)


def _is_requeued_and_cancelled(points: Points, job: Job) -> None:
    """The rows of an older run are pending again, after a later run has left a watermark."""
    points.harm({"raise": np.array([21.5])})
    first = points.scored(job)
    assert points.scored(job) > first
    assert requeue(points.producer, first, "ann") == 1
    cancel(points.producer, first, "ann")
    points.mend()


@pytest.mark.wide(quick=4)
@pytest.mark.parametrize("ends", [_is_cancelled, _has_a_dead_batch, _is_cut, _is_requeued_and_cancelled])
def test_rows_that_a_run_left_pending_are_found_below_its_watermark(
    points: Points, ends: Callable[[Points, Job], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = watched(points)
    without_margin(monkeypatch)
    points.sql(INSERT, id=21, x=21.5)

    ends(points, job)

    assert rows_of(points, points.scored(job)) == 1
    assert_accounted(points.engine, job, {})


@pytest.mark.quick
def test_a_sweep_finds_what_no_watermark_can_and_reports_it(points: Points, caplog: pytest.LogCaptureFixture) -> None:
    job = watched(points, sweep=timedelta(hours=6))
    points.sql("INSERT INTO points (id, x, at) VALUES (21, 21.5, '2001-01-01'), (22, 22.5, '2001-01-01')")
    points.sql(INSERT, id=23, x=23.5)
    assert ticked(points, job) == 1

    points.sql("UPDATE scorebeat.runs SET swept_at = swept_at - interval '7 h'")
    run = points.scored(job)

    assert ran(points, run, "compared_from IS NULL, rows_missed") == (True, 2)
    assert_accounted(points.engine, job, {})
    assert "sweep.found" in caplog.messages
    assert ticked(points, job) == 0
    assert points.sql("SELECT value FROM scorebeat.counters WHERE name = 'rows_missed'") == [2]


@pytest.mark.quick
def test_a_watermark_in_the_future_is_not_believed(points: Points) -> None:
    job = watched(points)
    points.sql("UPDATE scorebeat.runs SET watermark = watermark + 3600 * 1000000.0")  # the clock was set back since
    points.sql(INSERT, id=21, x=21.5)

    run = points.scored(job)

    assert ran(points, run, "compared_from IS NULL, rows_missed") == (True, 1)
    assert ticked(points, job) == 0


@pytest.mark.wide(quick=2)
@pytest.mark.parametrize(
    "change",
    [{"query": "SELECT id, x, at FROM points WHERE id > 0"}, {"cursor": "number", "query": "SELECT * FROM points"}],
    ids=["query", "cursor"],
)
def test_another_query_begins_with_a_comparison_of_every_key(points: Points, change: dict[str, Any]) -> None:
    job = watched(points)
    changed = points.job(**{"query": QUERY, "changed_at": "at", **change})
    assert not ran(points, points.scored(changed))

    points.job(query=QUERY, changed_at="at")  # and back again: what happened meanwhile is not known
    assert not ran(points, points.scored(job))


def test_a_run_of_some_rows_neither_uses_nor_moves_the_watermark(points: Points) -> None:
    job = watched(points)
    points.sql("INSERT INTO points (id, x, at) VALUES (21, 21.5, '2001-01-01'), (22, 22.5, now())")
    before = points.sql("SELECT max(watermark) FROM scorebeat.runs")

    selection = Selection(where="id = 21")
    run = enqueue(points.producer, Request(job.name, "ann", selection=selection)).run_id
    plan(points.producer, run)
    points.work(run)

    assert rows_of(points, run) == 1
    assert points.sql("SELECT max(watermark) FROM scorebeat.runs") == before
    assert ticked(points, job) == 1


def test_an_emptied_prediction_table_is_filled_again(points: Points) -> None:
    job = watched(points)
    points.sql("TRUNCATE predictions.points_job__poison_v1")

    assert rows_of(points, points.scored(job)) == 20
    assert_accounted(points.engine, job, {})


def test_a_new_version_begins_with_every_key(points: Points) -> None:
    job = watched(points)
    points.model({"other": []})
    publish.publish_anyway(points.producer, "poison", 2, "ann")

    assert rows_of(points, points.scored(job)) == 20
    points.sql(INSERT, id=21, x=21.5)
    assert ticked(points, job) == 1


def test_a_number_that_each_row_counts_is_no_cursor(points: Points) -> None:
    points.fill(20)
    points.sql("ALTER TABLE points ADD COLUMN version bigint DEFAULT 1")
    points.model({})
    job = points.job(query="SELECT id, x, version FROM points", changed_at="version")
    points.sql("UPDATE points SET version = 9 WHERE id = 1")
    points.scored(job)
    points.sql("UPDATE points SET version = 2, x = 102.5 WHERE id = 2")

    run = points.scored(job)

    assert (ran(points, run), rows_of(points, run)) == (False, 1)
    assert_accounted(points.engine, job, {})


@pytest.mark.slow
def test_a_role_that_does_not_see_transactions_compares_every_key(
    locked: LockedPoints,
) -> None:
    job = watched(locked)
    runner = locked.roles.runner
    other = make_engine(locked.roles.admin)
    with other.connect() as late:
        late.execute(text(INSERT), {"id": 21, "x": 21.5})
        run = locked.scored(job)
        with locked.runner.engine.connect() as connection:
            why = open_transactions.read(connection).why_unknown
        late.commit()
    other.dispose()

    assert (ran(locked, run), ran(locked, run, "watermark")) == (False, None)
    assert why is not None
    assert f"GRANT pg_read_all_stats TO {runner}, or set lookback" in why

    locked.sql(f"GRANT pg_read_all_stats TO {runner}")
    assert rows_of(locked, locked.scored(job)) == 1
    assert ticked(locked, job) == 0


def test_with_lookback_a_role_that_does_not_see_transactions_has_a_watermark(locked: LockedPoints) -> None:
    job = watched(locked, lookback=timedelta(minutes=15))
    other = make_engine(locked.roles.admin)
    with other.connect() as late:
        late.execute(text(INSERT), {"id": 21, "x": 21.5})
        assert ticked(locked, job) == 0
        late.commit()
    other.dispose()

    locked.sql("INSERT INTO points (id, x, at) VALUES (22, 22.5, now() - interval '14 min')")
    locked.sql("INSERT INTO points (id, x, at) VALUES (23, 23.5, now() - interval '16 min')")

    assert ticked(locked, job) == 2


def test_new_rows_with_one_key_are_refused_without_an_index_that_proves_it(points: Points) -> None:
    points.sql(f"CREATE TABLE more (id bigint, x float8, at {NOW})")
    job = watched(points, query=f"{QUERY} UNION ALL SELECT * FROM more")
    points.sql("INSERT INTO more VALUES (21, 21.5), (22, 22.5)")
    assert ticked(points, job) == 2

    points.sql("INSERT INTO more VALUES (23, 23.5), (23, 24.5)")
    run = points.planned(job)

    assert "the query gives (23) 2 times" in str(points.run(run).reason)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cursor": "nothing"}, "query has no column 'nothing', which `cursor` names; it returns id, x, at, name"),
        ({"cursor": "name"}, "cursor: column 'name' is text; expected one of timestamp with time zone"),
        ({"lookback": 100}, "lookback: the column 'at' is timestamp with time zone; expected a duration in quotes"),
        (
            {"cursor": "id", "lookback": timedelta(minutes=1)},
            "lookback: the column 'id' is bigint; expected a whole number, such as 1000",
        ),
    ],
)
def test_a_cursor_that_cannot_be_one_is_refused(points: Points, options: dict[str, Any], message: str) -> None:
    points.fill(1)
    points.sql(f"ALTER TABLE points ADD COLUMN at {NOW}, ADD COLUMN name text")
    points.model({})

    with pytest.raises(UsageError, match=r"jobs\.points_job") as caught:
        points.job(**{"query": "SELECT * FROM points", "changed_at": "at", **options})

    assert message in str(caught.value)


def test_a_preview_shows_how_rows_are_found_and_what_would_help(points: Points) -> None:
    job = watched(points)
    found = preview(points.producer, job.name)
    assert found.rows_from.startswith("those with at from 20")
    assert found.rows_from.endswith(", by the index points_at_idx; once each 1d every key is compared")
    assert found.cost.endswith("as long with ten times the rows: it grows with what changed")
    assert found.advice == ()

    points.sql("DROP INDEX points_at_idx")
    points.sql("UPDATE points SET at = NULL WHERE id > 10")
    points.sql("ANALYZE points")
    found = preview(points.producer, job.name)

    assert "for which the whole query is read" in found.rows_from
    assert found.cost.endswith("s with ten times the rows")
    assert found.advice[0] == "CREATE INDEX ON points (at)"
    assert found.advice[1].startswith("about 50% of the rows have no at, and each run compares all of them")


def test_a_preview_names_a_transaction_that_is_open_for_long(points: Points, monkeypatch: pytest.MonkeyPatch) -> None:
    job = watched(points)
    monkeypatch.setattr(explanation, "LONG_OPEN", timedelta(0))

    with writing(points, INSERT, id=21, x=21.5):
        (advice,) = preview(points.producer, job.name).advice

    assert advice.startswith("a transaction is open since 20")


def test_a_foreign_table_needs_a_lookback(points: Points) -> None:
    far = "SELECT id, x, at FROM far"
    job = watched(points)
    at = make_url(points.producer.url)
    points.sql("CREATE EXTENSION postgres_fdw")
    points.sql(
        "CREATE SERVER far_away FOREIGN DATA WRAPPER postgres_fdw"
        f" OPTIONS (host '{at.query['host']}', dbname '{at.database}')"
    )
    points.sql(
        f"CREATE USER MAPPING FOR CURRENT_USER SERVER far_away OPTIONS (user '{at.username}', password '{at.password}')"
    )
    points.sql("CREATE FOREIGN TABLE far (id bigint, x float8, at timestamptz) SERVER far_away"
               " OPTIONS (table_name 'points')")  # fmt: skip
    job = points.job(query=far, changed_at="at")
    points.scored(job)

    assert not ran(points, points.scored(job))
    assert preview(points.producer, job.name).advice[0].endswith("are not seen here: set lookback")

    job = points.job(query=far, changed_at="at", lookback=timedelta(seconds=1))
    points.scored(job)
    points.sql(INSERT, id=21, x=21.5)
    assert ticked(points, job) == 1
