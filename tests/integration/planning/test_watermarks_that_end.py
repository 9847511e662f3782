"""Rows that become pending below a watermark: the watermark counts no more, or the job has none."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from scorebeat.core.errors import UsageError
from scorebeat.core.jobs.job import Job
from scorebeat.db.ledger import runs
from scorebeat.db.source.selection import open_transactions, planning_cursor
from scorebeat.db.source.selection.planning_cursor import KeyCursor
from scorebeat.producer.control.plan import plan
from scorebeat.producer.planning import begin_at, planned_rows
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.producer.requests.preview import preview
from scorebeat.producer.requests.requeue import cancel, requeue
from tests.integration.planning.test_watermarks import (
    END,
    INSERT,
    NOW,
    NUMBERS,
    QUERY,
    ran,
    rows_of,
    ticked,
    watched,
    without_margin,
)
from tests.support.poison_fixtures import Points, assert_accounted, points

pytestmark = pytest.mark.wide

__all__ = ["points"]


@pytest.fixture(autouse=True)
def _no_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    without_margin(monkeypatch)


def _a_table_takes_its_place(points: Points) -> Callable[[], Any]:
    points.sql("CREATE TABLE other (LIKE points INCLUDING ALL)")
    points.sql("INSERT INTO other SELECT * FROM points")
    points.sql("INSERT INTO other (id, x) VALUES (21, 21.5)")
    swap = "ALTER TABLE points RENAME TO gone; ALTER TABLE other RENAME TO points"
    return lambda: [points.sql(part) for part in swap.split(";")]


def _a_table_becomes_its_child(points: Points) -> Callable[[], Any]:
    points.sql("CREATE TABLE child (LIKE points INCLUDING ALL)")
    points.sql("INSERT INTO child (id, x) VALUES (21, 21.5)")
    return lambda: points.sql("ALTER TABLE child INHERIT points")


def _it_is_truncated_and_filled_again(points: Points) -> Callable[[], Any]:
    points.sql("CREATE TABLE copy AS SELECT * FROM points")
    points.sql("INSERT INTO copy VALUES (21, 21.5, now(), 21)")
    return lambda: [points.sql("TRUNCATE points"), points.sql("INSERT INTO points SELECT * FROM copy")]


@pytest.mark.wide(quick=3)
@pytest.mark.parametrize(
    "change", [_a_table_takes_its_place, _a_table_becomes_its_child, _it_is_truncated_and_filled_again]
)
def test_rows_that_come_with_a_table_are_found_though_they_are_older(
    points: Points, change: Callable[[Points], Callable[[], Any]]
) -> None:
    job = watched(points)
    take_place = change(points)
    assert ticked(points, job) == 0

    take_place()

    assert rows_of(points, points.scored(job)) == 1
    assert_accounted(points.engine, job, {})
    assert ticked(points, job) == 0


@pytest.mark.quick
def test_rows_of_an_attached_partition_are_found_though_they_are_older(points: Points) -> None:
    points.sql(f"CREATE TABLE points (id bigint PRIMARY KEY, x float8, at {NOW}) PARTITION BY RANGE (id)")
    points.sql("CREATE TABLE first PARTITION OF points FOR VALUES FROM (1) TO (21)")
    points.sql("INSERT INTO points SELECT i, i + 0.5 FROM generate_series(1, 20) i")
    points.model({})
    job = points.job(query=QUERY, changed_at="at")
    points.scored(job)
    points.sql("CREATE TABLE second (LIKE points INCLUDING ALL)")
    points.sql("INSERT INTO second VALUES (21, 21.5)")
    assert ticked(points, job) == 0

    points.sql("ALTER TABLE points ATTACH PARTITION second FOR VALUES FROM (21) TO (41)")

    assert rows_of(points, points.scored(job)) == 1
    assert_accounted(points.engine, job, {})


LATE = {
    "materialized view": ("CREATE MATERIALIZED VIEW late AS SELECT * FROM points", "late", "public.late, whose rows"),
    "under a view": (
        "CREATE MATERIALIZED VIEW stored AS SELECT * FROM points; CREATE VIEW late AS SELECT * FROM stored",
        "late",
        "public.stored, whose rows",
    ),
    "function": (
        "CREATE FUNCTION late() RETURNS SETOF points AS 'BEGIN RETURN QUERY TABLE points; END' LANGUAGE plpgsql",
        "late()",
        "rows of the function public.late, whose tables are not known",
    ),
}


@pytest.mark.wide(quick=3)
@pytest.mark.parametrize(("made", "name", "reason"), LATE.values(), ids=LATE)
def test_a_query_whose_rows_appear_late_needs_a_lookback(points: Points, made: str, name: str, reason: str) -> None:
    watched(points)
    for part in [made] if "FUNCTION" in made else made.split(";"):
        points.sql(part)
    query = f"SELECT id, x, at FROM {name}"
    options = {"query": query, "changed_at": "at", "allow_full_scans": True}
    job = points.job(**options)
    points.scored(job)

    assert not ran(points, points.scored(job))
    advice = preview(points.producer, job.name).advice[0]
    assert reason in advice
    assert advice.endswith(": set lookback")

    job = points.job(**options, lookback=timedelta(hours=1))
    points.scored(job)
    assert ran(points, points.scored(job))


@pytest.mark.slow
def test_a_row_that_a_later_run_left_pending_is_found_below_an_older_watermark(points: Points) -> None:
    job = watched(points)
    points.harm({"raise": np.array([21.5])})
    points.sql(INSERT, id=21, x=21.5)
    first = points.scored(job)
    assert ticked(points, job) == 0
    requeue(points.producer, first, "ann")
    points.sql(END.format("'dead', error = 'gone'") + " AND state = 'pending'", run=first)
    points.work(first)
    second = points.scored(job)  # it began below the watermark of before, and has the row in quarantine
    requeue(points.producer, first, "ann")
    points.work(first)

    requeue(points.producer, second, "ann")
    cancel(points.producer, second, "ann")
    points.mend()

    assert rows_of(points, points.scored(job)) == 1
    assert_accounted(points.engine, job, {})


def test_a_cancelled_sweep_is_followed_by_a_comparison_of_every_key(points: Points) -> None:
    job = watched(points)
    points.sql(INSERT, id=21, x=21.5)
    points.sql("UPDATE scorebeat.runs SET swept_at = swept_at - interval '2 d'")
    cancel(points.producer, points.planned(job), "ann")
    points.sql("UPDATE scorebeat.runs SET swept_at = swept_at + interval '2 d'")

    run = points.scored(job)

    assert (ran(points, run), rows_of(points, run)) == (False, 1)


def _snapshot_run_with_a_bad_row(points: Points) -> tuple[int, Job]:
    """A run that has a row in quarantine, and whose snapshot is gone; and the same job with a watermark."""
    points.fill(20)
    points.sql(f"ALTER TABLE points ADD COLUMN at {NOW}")
    points.model({"raise": [5]})
    run = points.scored(points.job(query=QUERY, snapshot=True))
    job = points.job(query=QUERY, cursor="at")
    points.scored(job)
    assert ticked(points, job) == 0
    points.sql(f"DROP TABLE IF EXISTS scorebeat_work.run_{run}")
    points.mend()
    return run, job


@pytest.mark.quick
def test_rows_that_a_requeue_leaves_to_the_next_run_are_found_by_it(points: Points) -> None:
    run, job = _snapshot_run_with_a_bad_row(points)

    with pytest.raises(UsageError, match="1 rows that it had in quarantine are pending now"):
        requeue(points.producer, run, "ann")

    assert rows_of(points, points.scored(job)) == 1
    assert_accounted(points.engine, job, {})


def test_no_rows_are_left_to_the_next_run_while_one_is_open(points: Points) -> None:
    run, job = _snapshot_run_with_a_bad_row(points)
    opened = enqueue(points.producer, Request(job.name, "ann")).run_id

    with pytest.raises(UsageError, match=f"while run {opened} of job 'points_job' is open"):
        requeue(points.producer, run, "ann")

    assert points.quarantined(job) == ["5"]


@pytest.mark.wide(quick=6)
@pytest.mark.parametrize("later", ["SELECT 1", "SELECT pg_sleep(0.01)"])
@pytest.mark.parametrize(
    "options", [{}, {"lookback": timedelta(minutes=1)}, NUMBERS], ids=["time", "lookback", "number"]
)
def test_a_session_that_reports_no_transaction_holds_the_watermark(
    points: Points, options: dict[str, Any], later: str
) -> None:
    job = watched(points, **options)
    before = ran(points, points.scored(job), "watermark")
    with points.engine.connect() as late:
        late.exec_driver_sql("SET track_activities = off")
        late.commit()
        late.execute(text(INSERT), {"id": 21, "x": 21.5})
        late.exec_driver_sql("SET track_activities = on")  # its transaction is not reported any more
        late.exec_driver_sql(later)
        with points.engine.connect() as connection:
            why = open_transactions.read(connection).why_unknown
        assert why is not None
        assert "do not report when their transactions began, because track_activities is off" in why
        for number in (22, 23):
            points.sql(INSERT, id=number, x=number + 0.5)
            run = points.scored(job)
            assert "lookback" in options or ran(points, run, "watermark") == before
        late.commit()

    assert ticked(points, job) == 1
    assert_accounted(points.engine, job, {})


def test_with_lookback_a_transaction_that_is_seen_holds_the_watermark_too(points: Points) -> None:
    job = watched(points, lookback=timedelta(milliseconds=1))
    with points.engine.connect() as other, points.engine.connect() as late:
        other.exec_driver_sql("SET track_activities = off")
        other.commit()
        late.execute(text(INSERT), {"id": 21, "x": 21.5})
        for number in (22, 23):
            points.sql(INSERT, id=number, x=number + 0.5)
            assert ticked(points, job) >= 1
        late.commit()

    assert ticked(points, job) == 1
    assert_accounted(points.engine, job, {})


def test_a_run_that_was_open_while_lookback_came_leaves_no_watermark_for_it(points: Points) -> None:
    job = watched(points)
    run = enqueue(points.producer, Request(job.name, "ann")).run_id
    points.job(query=QUERY, changed_at="at", lookback=timedelta(hours=1))
    plan(points.producer, run)
    points.work(run)
    points.sql("INSERT INTO points (id, x, at) VALUES (21, 21.5, now() - interval '30 min')")

    assert rows_of(points, points.scored(job)) == 1


INDEXES = {
    "(at)": True,
    "(at DESC NULLS LAST)": True,
    "USING brin (at)": True,
    "(at) WHERE at IS NOT NULL": False,
    "(id, at)": False,
    "(at, id)": True,
}


@pytest.mark.parametrize(("index", "helps"), INDEXES.items(), ids=INDEXES)
def test_an_index_is_named_only_if_a_tick_reads_by_it(points: Points, index: str, helps: bool) -> None:
    job = watched(points)
    points.sql("DROP INDEX points_at_idx")
    points.sql(f"CREATE INDEX by_at ON points {index}")

    found = preview(points.producer, job.name)

    assert ("by the index by_at" in found.rows_from) == helps
    assert found.advice == (() if helps else ("CREATE INDEX ON points (at)",))


@pytest.mark.wide(quick=2)
@pytest.mark.parametrize("analyzed", [False, True], ids=["old statistics", "new statistics"])
def test_a_tick_reads_few_rows_of_a_large_table(points: Points, analyzed: bool) -> None:
    points.fill(100_000)
    points.sql("ALTER TABLE points ADD COLUMN at timestamptz DEFAULT now() - interval '1 day'")
    points.sql("ALTER TABLE points ALTER at SET DEFAULT now()")
    points.sql("CREATE INDEX ON points (at)")
    points.sql("ANALYZE points")
    points.model({})
    job = points.job(query=QUERY, changed_at="at")
    run = points.scored(job)
    points.sql("INSERT INTO points SELECT i, i + 0.5 FROM generate_series(100001, 100050) i")
    points.sql("UPDATE points SET at = now() WHERE mod(id, 2000) = 0")
    if analyzed:
        points.sql("ANALYZE points")

    assert _rows_read(points, run, job) < 1_000  # 100 rows are new or changed


def _rows_read(points: Points, run_id: int, job: Job) -> int:
    """Rows that PostgreSQL reads while a plan reads its keys."""
    count = (
        "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::int FROM pg_stat_xact_user_tables"
        " WHERE relname LIKE 'points%' AND schemaname IN ('public', 'predictions')"
    )
    with planning_cursor.reading(points.engine) as reader:
        run = runs.get(reader, run_id)
        fitted = planned_rows.fit(reader, run)
        rows, empty = planned_rows.pending_rows(reader, run, fitted)
        begun = begin_at.begin(reader, job, fitted.source, run.prediction_set_id, empty=empty)
        assert begun is not None
        assert begun.since is not None
        before = reader.execute(text(count)).scalar_one()
        keys = KeyCursor(reader, replace(rows, since=begun.since), anti_join=True).read(50_000)
        assert len(keys) == 100
        return int(reader.execute(text(count)).scalar_one() - before)


@pytest.mark.parametrize(
    ("option", "advice"),
    [
        ("CACHE 20", "the sequence numbers has CACHE 20, so a session uses numbers later than it draws them"),
        ("INCREMENT -1", "the sequence numbers counts down, so number does not grow: leave cursor out"),
        ("CYCLE", "the sequence numbers begins again at its end (CYCLE), so number does not grow"),
    ],
)
def test_a_sequence_whose_numbers_do_not_only_grow_is_named(points: Points, option: str, advice: str) -> None:
    options: dict[str, Any] = NUMBERS
    job = watched(points, **options)
    points.sql("CREATE INDEX ON points (number)")
    assert preview(points.producer, job.name).advice == ()
    points.sql(f"CREATE SEQUENCE numbers START -1000 MINVALUE -2000 {option}")
    points.sql("ALTER TABLE points ALTER number SET DEFAULT nextval('numbers')")

    (found,) = preview(points.producer, job.name).advice

    assert found.startswith(advice)


@pytest.mark.parametrize("name", ['At "x"', "at%s", "ät:x", "select", "q", "at'; --", "_%(a)s{}"])
def test_a_cursor_has_any_name(points: Points, name: str) -> None:
    points.fill(20)
    column = '"' + name.replace('"', '""') + '"'
    with points.engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE points ADD COLUMN {column} {NOW}")
        connection.exec_driver_sql(f"CREATE INDEX by_name ON points ({column})")
    points.model({})
    job = points.job(query="SELECT * FROM points", changed_at=name)
    points.scored(job)
    points.sql(INSERT, id=21, x=21.5)

    assert ticked(points, job) == 1
    assert "by the index by_name" in preview(points.producer, job.name).rows_from


@pytest.mark.parametrize(("kind", "least"), [("smallint", -(2**15)), ("integer", -(2**31)), ("bigint", -(2**63))])
def test_a_cursor_of_numbers_may_begin_at_the_smallest(points: Points, kind: str, least: int) -> None:
    points.fill(20)
    points.sql(f"ALTER TABLE points ADD COLUMN number {kind}")
    points.sql(f"UPDATE points SET number = {least + 100} + id")
    points.model({})
    job = points.job(query="SELECT id, x, number FROM points", cursor="number", lookback=1000)
    for _ in range(3):
        points.scored(job)
    points.sql("INSERT INTO points VALUES (21, 21.5, -5)")

    assert ticked(points, job) == 1
    assert_accounted(points.engine, job, {})
