"""Rows that changed are scored again: each prediction is of the last values that a run read, however they change."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from scorebeat.core.errors import UsageError
from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.db.ledger import batches
from scorebeat.db.ledger.failures import isolation, quarantine
from scorebeat.producer.requests.requeue import requeue
from scorebeat.worker.scoring import predict, score
from scorebeat.worker.scoring.attempt import Attempt
from scorebeat.worker.scoring.fetch import fetch
from scorebeat.worker.scoring.runtime import Runtime
from scorebeat.worker.scoring.score import Outcome, score_batch
from tests.support.poison_fixtures import Points, assert_accounted, points

pytestmark = pytest.mark.wide

__all__ = ["points"]

QUERY = "SELECT id, x, at FROM points"
TABLE = "predictions.points_job__poison_v1"
SAME_VALUE = f"SELECT count(*) FROM {TABLE} t JOIN points p USING (id) WHERE t.scorebeat_changed_at = p.at"
CHANGE = "UPDATE points SET x = :x + 0.5, at = {} WHERE id = :id"
TYPES = {
    "timestamptz": ("timestamptz", "clock_timestamp()"),
    "timestamp": ("timestamp", "clock_timestamp()::timestamp"),
    "bigint": ("bigint", "nextval('versions')"),
}
SAME_BATCH = (
    "INSERT INTO scorebeat.batches (run_id, number, queue, rows_planned, first_key, last_key, attempts_left)"
    " SELECT run_id, number + 1, queue, rows_planned, first_key, last_key, attempts_left FROM scorebeat.batches"
    " WHERE id = :id RETURNING id"
)
Meanwhile = Callable[[Callable[[], object]], None]
"""`meanwhile(act)`: once, after a fetch and before its commit."""


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    predict_rows = predict.predict_rows
    acts: list[Callable[[], object]] = []

    def predicting(attempt: Attempt, rows: pa.RecordBatch) -> pa.RecordBatch:
        if acts:
            acts.pop()()
        return predict_rows(attempt, rows)

    monkeypatch.setattr(predict, "predict_rows", predicting)
    return acts.append


def watched(points: Points, count: int = 20, kind: str = "timestamptz", **options: Any) -> Job:
    """Points with a column `at` that shows when they changed, and a job that follows it; none is scored yet."""
    points.fill(count)
    points.sql("CREATE SEQUENCE versions")
    points.sql(f"ALTER TABLE points ADD COLUMN at {TYPES[kind][0]} DEFAULT {TYPES[kind][1]}")
    points.model({})
    return points.job(**{"query": QUERY, "changed_at": "at", **options})


def change(points: Points, number: int, x: float, now: str = "clock_timestamp()") -> None:
    points.sql(CHANGE.format(now), id=number, x=x)


def values(points: Points) -> dict[int, float]:
    return dict(points.sql(f"SELECT id, value FROM {TABLE}"))


@pytest.mark.parametrize("kind", TYPES)
def test_a_row_that_changed_is_scored_again_and_no_other_is(points: Points, kind: str) -> None:
    job = watched(points, kind=kind)
    first = points.scored(job)
    change(points, 7, 70, TYPES[kind][1])
    points.sql("INSERT INTO points (id, x) VALUES (21, 21.5)")

    second = points.scored(job)

    assert points.errors == []
    assert (points.batches(first, "rows_scored"), points.batches(second, "rows_scored")) == ([20], [2])
    assert_accounted(points.engine, job, {})
    assert points.batches(points.scored(job), "rows_scored") == []
    assert points.sql(
        f"SELECT count(*) FROM {TABLE} t JOIN points p USING (id) WHERE t.scorebeat_changed_at = p.at"
    ) == [21]


@pytest.mark.quick
def test_a_row_that_changes_while_it_is_scored_is_taken_by_the_next_run(points: Points, meanwhile: Meanwhile) -> None:
    job = watched(points)
    points.scored(job)
    change(points, 7, 70)
    meanwhile(lambda: change(points, 7, 77))

    points.scored(job)

    assert values(points)[7] == 141.0
    assert points.sql(f"SELECT t.scorebeat_changed_at < p.at FROM {TABLE} t JOIN points p USING (id) WHERE id = 7") == [
        True
    ]
    points.scored(job)
    assert_accounted(points.engine, job, {})


@pytest.mark.quick
def test_a_batch_that_read_a_row_earlier_never_replaces_a_newer_prediction(
    points: Points, meanwhile: Meanwhile
) -> None:
    job = watched(points)
    points.scored(job)
    change(points, 7, 70)
    run = points.planned(job)
    (first,) = points.pending(run)
    twice = points.sql(SAME_BATCH, id=first)[0]
    other = Runtime(points.settings, name="w2")

    def overtaken() -> None:
        change(points, 7, 77)
        assert score_batch(twice, other) is Outcome.COMMITTED

    meanwhile(overtaken)
    assert points.work(run) is RunState.SUCCEEDED

    other.close()
    assert points.errors == []
    assert points.batches(run, "rows_scored") == [0, 1]
    assert_accounted(points.engine, job, {})


@pytest.mark.quick
def test_a_place_in_the_table_that_another_row_took_since_costs_that_row_nothing(
    points: Points, meanwhile: Meanwhile
) -> None:
    job = watched(points)
    points.scored(job)
    change(points, 7, 70)
    run = points.planned(job)
    place = points.sql(f"SELECT ctid::text FROM {TABLE} WHERE id = 7")

    def taken() -> None:
        points.sql(f"DELETE FROM {TABLE} WHERE id = 7")
        with points.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"VACUUM (INDEX_CLEANUP ON) {TABLE}")
        points.sql(f"INSERT INTO {TABLE} (id, value, batch_id) VALUES (1000, 1, 1)")
        assert points.sql(f"SELECT ctid::text FROM {TABLE} WHERE id = 1000") == place

    meanwhile(taken)
    points.work(run)

    assert (values(points)[7], values(points)[1000]) == (141.0, 1.0)


@pytest.mark.quick
def test_a_worker_that_outlives_its_claim_replaces_nothing(points: Points, meanwhile: Meanwhile) -> None:
    job = watched(points)
    points.scored(job)
    change(points, 7, 70)
    run = points.planned(job)
    (batch,) = points.pending(run)
    meanwhile(lambda: points.sql("UPDATE scorebeat.batches SET attempt = attempt + 1 WHERE id = :id", id=batch))

    assert score_batch(batch, points.runtime) is Outcome.LOST

    assert values(points)[7] == 15.0


@pytest.mark.quick
def test_a_batch_ends_although_its_rows_change_all_the_time(points: Points, monkeypatch: pytest.MonkeyPatch) -> None:
    job = watched(points)
    points.scored(job)
    points.sql("UPDATE points SET at = clock_timestamp()")
    run = points.planned(job)
    points.sql("UPDATE scorebeat.batches SET care = 1 WHERE run_id = :run", run=run)
    monkeypatch.setattr(score, "CHUNK_ROWS", 5)
    predict_rows = predict.predict_rows

    def changing(attempt: Attempt, rows: pa.RecordBatch) -> pa.RecordBatch:
        points.sql("UPDATE points SET at = clock_timestamp()")
        return predict_rows(attempt, rows)

    monkeypatch.setattr(predict, "predict_rows", changing)

    assert points.work(run) is RunState.SUCCEEDED
    assert points.batches(run, "rows_scored") == [20]


@pytest.mark.quick
def test_a_row_whose_new_values_fail_loses_its_prediction_until_it_changes(points: Points) -> None:
    job = watched(points)
    points.scored(job)
    points.harm({"raise": np.array([666.5])})
    change(points, 7, 666)

    points.scored(job)

    assert points.quarantined(job) == ["7"]
    assert 7 not in values(points)
    assert_accounted(points.engine, job, {7: "ValueError"})
    assert points.batches(points.scored(job)) == []  # it is not tried again as it is
    change(points, 7, 666)
    assert points.batches(points.scored(job), "rows_failed") == [1]
    assert points.quarantined(job, "batch_id = (SELECT max(id) FROM scorebeat.batches)") == [True]
    change(points, 7, 70)
    points.scored(job)
    assert_accounted(points.engine, job, {})
    assert points.quarantined(job) == []


@pytest.mark.parametrize("care", [1, 2])
def test_careful_attempts_replace_too(points: Points, care: int) -> None:
    job = watched(points)
    points.scored(job)
    points.sql("UPDATE points SET x = x + 100, at = clock_timestamp() WHERE mod(id, 2) = 0")
    run = points.planned(job)
    points.sql("UPDATE scorebeat.batches SET care = :care WHERE run_id = :run", run=run, care=care)

    assert points.work(run) is RunState.SUCCEEDED
    assert points.errors == []
    assert_accounted(points.engine, job, {})


def test_a_changed_row_that_ends_its_process_is_quarantined_for_the_values_that_did(points: Points) -> None:
    job = watched(points)
    points.scored(job)
    change(points, 7, 70)
    run = points.planned(job)
    (batch,) = points.pending(run)
    points.sql("UPDATE scorebeat.batches SET care = 2 WHERE id = :id", id=batch)
    with points.engine.begin() as connection:
        held = batches.claim(connection, batch, "w9", timedelta(minutes=1), pid=1)
        assert held is not None
        read = fetch(
            Attempt(
                held, points.runtime.job(run), points.runtime.model(points.runtime.job(run).version), points.runtime
            ),
            100,
            anti_join=True,
        )
        assert isolation.probe(connection, held, quarantine.row_id(read[0].keys, 0))
        batches.fail_lost(connection, batch, "w9", 1, "it was killed")

    assert points.work(run) is RunState.PARTIAL
    assert_accounted(points.engine, job, {7: "ProcessDied"})
    assert points.batches(points.scored(job)) == []
    change(points, 7, 71)
    points.scored(job)
    assert_accounted(points.engine, job, {})


def test_a_row_that_postgresql_cannot_compute_is_quarantined_for_its_values(points: Points) -> None:
    job = watched(points, query="SELECT id, 1 / (x - 0.5) * 0 + x AS x, at FROM points")
    points.scored(job)
    change(points, 7, 0)
    change(points, 8, 80)

    points.scored(job)

    assert_accounted(points.engine, job, {7: "DataError"})
    assert points.batches(points.scored(job)) == []
    change(points, 7, 70)
    points.scored(job)
    assert_accounted(points.engine, job, {})


@pytest.mark.parametrize("kind", TYPES)
def test_the_least_larger_value_is_newer_and_an_equal_one_is_left_alone(points: Points, kind: str) -> None:
    job = watched(points, kind=kind)
    points.scored(job)
    least = "at + 1" if kind == "bigint" else "at + interval '1 microsecond'"
    change(points, 7, 70, least)
    change(points, 8, 80, "at")
    change(points, 9, 90, "at - interval '1 day'" if kind != "bigint" else "at - 1")

    points.scored(job)

    assert [values(points)[number] for number in (7, 8, 9)] == [141.0, 17.0, 19.0]
    assert points.sql(
        f"SELECT count(*) FROM {TABLE} t JOIN points p USING (id) WHERE t.scorebeat_changed_at = p.at"
    ) == [19]


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp"])
def test_infinity_counts_as_no_value_so_that_later_changes_are_seen(points: Points, kind: str) -> None:
    job = watched(points, kind=kind)
    points.sql("UPDATE points SET at = 'infinity' WHERE id = 7")
    points.sql("UPDATE points SET at = '-infinity' WHERE id = 8")
    points.sql("UPDATE points SET at = '294276-12-31 23:59:59.999999' WHERE id = 9")
    points.sql("UPDATE points SET at = '4713-01-01 00:00:00.000001 BC' WHERE id = 10")
    points.scored(job)
    stored = points.sql(f"SELECT t.scorebeat_changed_at = p.at FROM {TABLE} t JOIN points p USING (id) ORDER BY id")
    assert stored[6:10] == [None, None, True, True]
    assert points.batches(points.scored(job)) == []

    for number in (7, 8):
        change(points, number, number * 10)
    points.scored(job)
    assert_accounted(points.engine, job, {})


def test_no_value_is_the_oldest_and_is_scored_and_logged_once(points: Points, caplog: pytest.LogCaptureFixture) -> None:
    job = watched(points, batch_rows=4)
    points.sql("UPDATE points SET at = NULL WHERE id IN (7, 8, 9)")
    points.scored(job)
    assert [record.getMessage() for record in caplog.records].count("rows.without_value") == 1
    assert points.batches(points.scored(job)) == []

    change(points, 7, 70)
    change(points, 8, 80, "NULL")
    change(points, 10, 100, "NULL")  # it had a value
    points.scored(job)

    assert [values(points)[number] for number in (7, 8, 10)] == [141.0, 17.0, 21.0]


def test_a_job_that_gets_changed_at_later_scores_its_rows_once_more_and_views_stay(points: Points) -> None:
    points.fill(20)
    points.sql("ALTER TABLE points ADD COLUMN at timestamptz DEFAULT clock_timestamp()")
    points.sql("UPDATE points SET at = NULL WHERE id = 20")
    points.model({})
    points.scored(points.job(query=QUERY))
    columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'points_job' ORDER BY 1"
    before = points.sql(columns)
    points.sql("CREATE VIEW mine AS SELECT * FROM predictions.points_job")

    job = points.job(query=QUERY, changed_at="at")
    assert points.batches(points.scored(job), "rows_scored") == [19]

    assert points.batches(points.scored(job)) == []
    assert points.sql(columns) == before
    assert points.sql("SELECT count(*) FROM mine") == [20]
    change(points, 7, 70)
    points.scored(points.job(query=QUERY))  # and without it: nothing is compared
    assert values(points)[7] == 15.0
    points.sql("INSERT INTO points VALUES (21, 21.5)")
    points.scored(points.job(query=QUERY))
    points.scored(points.job(query=QUERY, changed_at="at"))
    assert_accounted(points.engine, job, {})


def test_a_column_that_gets_another_type_makes_every_row_newer_once(points: Points) -> None:
    job = watched(points, keep_history=True)
    points.scored(job)
    points.sql("ALTER TABLE points ALTER COLUMN at DROP DEFAULT, ALTER COLUMN at TYPE bigint USING id")

    assert points.batches(
        points.scored(points.job(query=QUERY, changed_at="at", keep_history=True)), "rows_scored"
    ) == [20]

    points.sql("UPDATE points SET at = at + 1, x = x + 1 WHERE id < 6")
    points.scored(job)
    assert_accounted(points.engine, job, {})
    assert points.sql(f"SELECT count(*) FROM {TABLE}__history") == [25]


def test_a_key_that_changed_is_a_new_row(points: Points) -> None:
    job = watched(points)
    points.scored(job)
    points.sql("UPDATE points SET id = 700, at = clock_timestamp() WHERE id = 7")

    assert points.batches(points.scored(job), "rows_scored") == [1]
    assert {7, 700} <= values(points).keys()  # `deleted` and `prune` are for the old one


REFUSED = {
    "not a column": ("nothing", "has no column 'nothing', which `changed_at` names; it returns id, x, at"),
    "a wrong type": ("x", "changed_at: column 'x' is double precision; expected one of timestamp with"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_column_that_cannot_show_when_a_row_changed_is_refused(points: Points, case: str) -> None:
    column, words = REFUSED[case]
    watched(points)

    with pytest.raises(UsageError, match=words):
        points.job(query=QUERY, changed_at=column)


def of_another_column(points: Points) -> Job:
    """The job with a column whose values are all smaller than those that were stored."""
    return points.job(query="SELECT id, x, version FROM points", changed_at="version", error_threshold=-1)


@pytest.mark.quick
def test_values_of_another_column_are_not_compared_with_those_that_were_stored(points: Points) -> None:
    job = watched(points, kind="bigint")
    points.sql("ALTER TABLE points ADD COLUMN version bigint DEFAULT 0")
    points.sql("UPDATE points SET at = at + 1000")
    points.scored(job)

    job = of_another_column(points)
    points.scored(job)
    points.sql("UPDATE points SET x = 70.5, version = 1 WHERE id = 7")

    assert points.batches(points.scored(job), "rows_scored") == [1]
    assert_accounted(points.engine, job, {})


def test_a_column_that_is_named_after_a_time_without_any_is_another_one(points: Points) -> None:
    job = watched(points, kind="bigint")
    points.sql("ALTER TABLE points ADD COLUMN version bigint DEFAULT 0")
    points.sql("UPDATE points SET at = at + 1000")
    points.scored(job)
    points.job(query=QUERY)

    points.sql("UPDATE points SET x = 70.5, version = 1 WHERE id = 7")
    job = of_another_column(points)

    assert points.batches(points.scored(job), "rows_scored") == [20]
    assert_accounted(points.engine, job, {})
    assert points.batches(points.scored(job), "rows_scored") == []


def test_a_row_in_quarantine_is_tried_again_by_another_column(points: Points) -> None:
    job = watched(points, kind="bigint", error_threshold=-1)
    points.sql("ALTER TABLE points ADD COLUMN version bigint DEFAULT 0")
    points.sql("UPDATE points SET at = at + 1000")
    points.scored(job)
    points.harm({"raise": np.array([666.5])})
    change(points, 9, 666, "at + 1")
    points.scored(job)
    assert points.quarantined(job) == ["9"]

    points.sql("UPDATE points SET x = 9.5, version = 1 WHERE id = 9")
    job = of_another_column(points)
    points.scored(job)

    assert_accounted(points.engine, job, {})


@pytest.mark.parametrize("how", ["in the middle", "by a requeue"])
def test_a_run_of_before_stores_no_values_that_another_column_is_compared_with(points: Points, how: str) -> None:
    job = watched(points, kind="bigint", batch_rows=10, error_threshold=-1)
    points.sql("ALTER TABLE points ADD COLUMN version bigint DEFAULT 0")
    points.sql("UPDATE points SET at = at + 1000")
    if how == "by a requeue":
        points.scored(job)
        points.sql("UPDATE points SET at = at + 1")
        run = points.planned(job)
        points.sql("ALTER TABLE points RENAME TO away")
        assert points.work(run) is RunState.FAILED
        points.sql("ALTER TABLE away RENAME TO points")
        points.scored(of_another_column(points))
        assert requeue(points.producer, run, "ann") == 2
    else:
        points.sql("UPDATE points SET x = NULL WHERE id = 19")
        points.job(query=QUERY, changed_at="at", batch_rows=10, error_threshold=-1, null_inputs="quarantine")
        run = points.planned(job)
        points.attempt(points.pending(run)[0])
    job = of_another_column(points)
    points.work(run)

    points.sql("UPDATE points SET x = 70.5, version = 1 WHERE id IN (7, 18, 19)")
    points.scored(job)

    assert_accounted(points.engine, job, {})
