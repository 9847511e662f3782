"""Requeue of rows with nasty keys and unreadable errors, and of rows that two batches hold."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.db.batch_io import columns
from scorebeat.producer.requests.requeue import requeue
from scorebeat.worker.scoring import commit
from scorebeat.worker.scoring.runtime import Runtime
from scorebeat.worker.scoring.score import Outcome, score_batch
from tests.support import poison
from tests.support.fixtures import wait_for
from tests.support.poison_fixtures import Points, assert_accounted, points

pytestmark = pytest.mark.wide

__all__ = ["points"]

NASTY = {"a quote": 'it\'s "so"', "lines": "a\nb\r\n\tc", "empty": "", "a path": "\\x00%s{}", "2 kB": "é" * 1000}


@pytest.mark.parametrize("case", NASTY)
def test_a_bad_row_with_a_nasty_key_is_quarantined_and_requeued(points: Points, case: str) -> None:
    points.sql("CREATE TABLE points (id text PRIMARY KEY, x float8)")
    points.sql("INSERT INTO points SELECT 'k' || i, i + 0.5 FROM generate_series(1, 50) i")
    points.sql("INSERT INTO points VALUES (:key, 99.5)", key=NASTY[case])
    points.model({"raise": [99]})
    job = points.job(batch_rows=20)

    run = points.scored(job)
    assert_accounted(points.engine, job, {NASTY[case]: "ValueError"})
    again = points.scored(job)
    points.mend()
    requeue(points.producer, run, "ann")

    assert points.batches(again) == []
    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


UNREADABLE = "caf\udce9 \0 \ud800"


def complain() -> None:
    raise ValueError(UNREADABLE)


complain.__code__ = complain.__code__.replace(co_filename="caf\udce9.py")


@pytest.mark.parametrize("rows", [3, 100], ids=["rows", "all"])
def test_an_error_that_is_no_text_for_postgresql_is_stored_as_what_can_be(
    points: Points, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    def predict(self: poison.Poison, batch: Any) -> Any:
        if batch.num_rows and batch.column(0).to_numpy().min() < rows + 1:
            complain()
        return real(self, batch)

    points.fill(100)
    points.model({})
    real = poison.Poison.predict
    monkeypatch.setattr(poison.Poison, "predict", predict)
    job = points.job()

    run = points.scored(job)

    errors = points.quarantined(job, "z.error") or points.batches(run, "error")
    assert all("caf\\udce9 \\0 \\ud800" in one for one in errors)
    assert len(errors) == (rows if rows < 100 else 1)
    assert all("caf\\udce9" in one for one in points.quarantined(job, "z.traceback"))
    monkeypatch.undo()
    assert requeue(points.producer, run, "ann", error="caf\\udce9") == 1
    points.work(run)
    assert_accounted(points.engine, job, {})


def test_a_requeued_row_is_scored_once_although_its_batch_is_requeued_too(
    points: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, run = two_quarantined(points)
    points.sql("UPDATE scorebeat.batches SET state = 'dead', attempts_left = 0, error = 'Broken: oh'")
    points.sql("DELETE FROM predictions.points_job__poison_v1 WHERE id > 50")
    points.mend()
    requeue(points.producer, run, "ann")
    overtaken(points, monkeypatch, run)

    points.work(run)

    assert points.run(run).state is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_two_batches_that_hold_the_same_row_score_it_once(points: Points, monkeypatch: pytest.MonkeyPatch) -> None:
    job, run = two_quarantined(points)
    points.mend()
    requeue_twice(points, run)
    assert len(points.pending(run)) == 2
    overtaken(points, monkeypatch, run)

    points.work(run)

    assert points.run(run).state is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


@pytest.mark.quick
def test_a_row_that_another_batch_scored_meanwhile_is_not_quarantined(
    points: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, run = two_quarantined(points)
    harm = points.mend()
    requeue_twice(points, run)
    overtaken(points, monkeypatch, run, harm)

    points.work(run)

    assert points.run(run).state is RunState.SUCCEEDED
    assert points.batches(run, "rows_scored, rows_failed") == [(98, 0), (2, 0)]
    assert_accounted(points.engine, job, {})


@pytest.mark.quick
@pytest.mark.parametrize("policy", ["retry-rows", "leave"])
def test_rows_requeued_from_a_claimed_batch_are_scored_by_its_next_attempt(
    points: Points, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    points.fill(1100)
    points.model({"raise": [5]})
    job = points.job(on_failure=policy)
    run = points.planned(job)
    (batch,) = points.pending(run)
    points.sql("UPDATE scorebeat.batches SET care = 1")  # a death before: it is scored in chunks of 512
    after_the_first_part(monkeypatch, lambda: results.append(requeue(points.producer, run, "ann")))
    results: list[int] = []

    assert score_batch(batch, points.runtime) is Outcome.LOST
    assert points.batches(run, "id, state, attempt, rows_failed") == [(batch, "pending", 1, 0)]
    points.mend()

    assert points.work(run) is RunState.SUCCEEDED
    assert results == [1]
    assert points.batches(run, "id, rows_scored, rows_failed") == [(batch, 1100, 0)]
    assert_accounted(points.engine, job, {})


def test_rows_taken_back_while_their_batch_is_committed_are_in_one_of_their_own(points: Points) -> None:
    points.fill(100)
    points.model({"raise": [5]})
    job = points.job(error_threshold=-1)
    run = points.scored(job)
    points.sql("UPDATE scorebeat.runs SET state = 'running', finished_at = NULL")
    points.sql("UPDATE scorebeat.batches SET state = 'claimed', claim_expires_at = 'infinity', finished_at = NULL")

    with points.engine.connect() as committing, ThreadPoolExecutor(1) as pool:
        committing.exec_driver_sql(
            "UPDATE scorebeat.batches SET state = 'committed', claim_expires_at = NULL, finished_at = now()"
        )
        requeuing = pool.submit(requeue, points.producer, run, "ann")
        wait_for(lambda: points.sql("SELECT 1 FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"))
        committing.commit()
        assert requeuing.result() == 1

    assert points.batches(run, "state, rows_planned, rows_failed") == [("committed", 99, 0), ("pending", 1, 0)]
    points.mend()
    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_a_bad_row_is_counted_once_although_two_batches_come_upon_it(
    points: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, run = two_quarantined(points)
    requeue_twice(points, run)
    overtaken(points, monkeypatch, run)

    assert points.work(run) is RunState.PARTIAL
    assert sum(points.batches(run, "rows_failed")) == 2
    points.mend()
    requeue(points.producer, run, "ann")

    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def two_quarantined(points: Points) -> tuple[Job, int]:
    """A job and its run over 100 rows, two of which the model did not like."""
    points.fill(100)
    points.model({"raise": [5, 6]})
    job = points.job(error_threshold=-1)
    return job, points.scored(job)


def requeue_twice(points: Points, run: int) -> None:
    """Two batches hold the quarantined rows: one of their own, and the one that they came from, which died."""
    requeue(points.producer, run, "ann", error="does not like")
    points.sql("UPDATE scorebeat.batches SET state = 'dead', attempts_left = 0, error = 'Broken: oh' WHERE number = 1")
    requeue(points.producer, run, "ben")


def after_the_first_part(monkeypatch: pytest.MonkeyPatch, then: Callable[[], object]) -> None:
    """When the first part of a batch has been stored."""

    def store(*arguments: Any) -> commit.Stored:
        monkeypatch.setattr("scorebeat.worker.scoring.score.store", commit.store)
        stored = commit.store(*arguments)
        then()
        return stored

    monkeypatch.setattr("scorebeat.worker.scoring.score.store", store)


def overtaken(points: Points, monkeypatch: pytest.MonkeyPatch, run: int, harm: Mapping[str, Any] | None = None) -> None:
    """When the first of the run's pending batches has fetched its rows, another worker scores all others.

    After that the model does `harm` again.
    """
    real = columns.fetch

    def fetch(*arguments: Any) -> Any:
        monkeypatch.setattr(columns, "fetch", real)
        fetched = real(*arguments)
        other = Runtime(points.settings, name="w2", _models=points.runtime._models)
        assert {score_batch(one, other) for one in points.pending(run)} <= {Outcome.COMMITTED}
        other.close()
        points.harm(dict(harm or {}))
        return fetched

    monkeypatch.setattr(columns, "fetch", fetch)
