"""Requeue: failed rows are tried again, all or a part, once, whoever requests it and however often."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scorebeat.core.errors import UnknownName, UsageError
from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.producer.requests.requeue import cancel, requeue
from scorebeat.worker.scoring.runtime import Runtime
from tests.support.poison_fixtures import MODEL, Points, assert_accounted, points

__all__ = ["points"]

BAD = [5, 50, 95]
RECORDED = "SELECT by, (details ->> 'batches')::int FROM scorebeat.actions WHERE action = 'run.requeued' ORDER BY id"


@pytest.fixture
def partial(points: Points) -> tuple[Job, int]:
    """A run of 100 rows in batches of 30, of which three are quarantined; the model has been mended since."""
    points.fill(100)
    points.model({"raise": BAD})
    job = points.job(batch_rows=30)
    run = points.scored(job)
    assert points.run(run).state is RunState.PARTIAL
    points.mend()
    return job, run


def kill_batches(points: Points, job: Job, number: int, error: str = "Broken: the disk is full") -> int:
    """A run of which so many batches are dead, and the others committed."""
    run = points.planned(job)
    points.sql(
        "UPDATE scorebeat.batches SET state = 'dead', attempts_left = 0, finished_at = now(), attempt = 5,"
        " sent_at = NULL,"
        " error = :error WHERE run_id = :run AND number <= :number",
        error=error,
        run=run,
        number=number,
    )
    points.work(run)
    return run


def test_quarantined_rows_are_scored_when_the_run_is_requeued(points: Points, partial: tuple[Job, int]) -> None:
    job, run = partial
    before = points.sql("SELECT id, batch_id, scored_at FROM predictions.points_job ORDER BY id")

    made = requeue(points.producer, run, "ann")

    assert made == 1
    assert points.run(run).state is RunState.RUNNING
    assert points.work(run) is RunState.SUCCEEDED
    assert points.batches(run, "rows_planned, rows_failed")[-1] == (3, 0)
    assert set(before) <= set(points.sql("SELECT id, batch_id, scored_at FROM predictions.points_job"))
    assert_accounted(points.engine, job, {})


def test_rows_that_fail_again_are_quarantined_again(points: Points) -> None:
    points.fill(100)
    points.model({"raise": BAD})
    job = points.job(batch_rows=30)
    run = points.scored(job)

    for _ in range(2):
        requeue(points.producer, run, "ann")
        assert points.work(run) is RunState.PARTIAL

    assert_accounted(points.engine, job, dict.fromkeys(BAD, "ValueError"))
    assert sum(points.batches(run, "rows_failed")) == len(BAD)


def test_one_batch_is_requeued_and_nothing_else(points: Points, partial: tuple[Job, int]) -> None:
    job, run = partial
    first = points.batches(run, "id")[0]

    requeue(points.producer, run, "ann", batch_id=first)

    assert points.work(run) is RunState.PARTIAL
    assert_accounted(points.engine, job, dict.fromkeys([50, 95], "ValueError"))


def test_rows_that_failed_by_an_error_are_requeued_and_nothing_else(points: Points) -> None:
    points.fill(100)
    points.model({"raise": [5], "nan": [6]})
    job = points.job(batch_rows=50)
    run = points.scored(job)
    points.mend()

    assert requeue(points.producer, run, "ann", error="no such error") == 0
    assert requeue(points.producer, run, "ann", error="does not like") == 1
    points.work(run)
    assert_accounted(points.engine, job, {6: "NonsenseError"})

    assert requeue(points.producer, run, "ann", error="NonsenseError: ") == 1
    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_dead_batches_are_requeued_all_or_by_their_error(points: Points) -> None:
    points.fill(100)
    points.model({})
    job = points.job(batch_rows=25)
    run = kill_batches(points, job, 2)
    points.sql(
        "UPDATE scorebeat.batches SET error = 'Other: 100% \"full\"' WHERE run_id = :run AND number = 2", run=run
    )

    assert requeue(points.producer, run, "ann", error='100% "full"') == 1
    assert points.work(run) is RunState.PARTIAL
    assert points.batches(run) == [("dead", 5), ("committed", 6), ("committed", 1), ("committed", 1)]
    assert requeue(points.producer, run, "ann") == 1

    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_a_second_requeue_changes_nothing(points: Points, partial: tuple[Job, int]) -> None:
    job, run = partial

    made = [requeue(points.producer, run, "ann") for _ in range(3)]
    points.work(run)
    made.append(requeue(points.producer, run, "ann"))

    assert made == [1, 0, 0, 0]
    assert points.sql(RECORDED) == [("ann", 1), ("ann", 0), ("ann", 0), ("ann", 0)]
    assert points.run(run).state is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_one_of_many_concurrent_requeues_does_the_work(points: Points, partial: tuple[Job, int]) -> None:
    job, run = partial
    with ThreadPoolExecutor(8) as people:
        made = list(people.map(lambda name: requeue(points.producer, run, name), "abcdefgh"))

    assert sorted(made) == [0] * 7 + [1]
    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_a_run_that_never_failed_has_nothing_to_requeue(points: Points) -> None:
    points.fill(10)
    points.model({})
    job = points.job()
    run = points.scored(job)

    assert requeue(points.producer, run, "ann") == 0

    assert points.run(run).state is RunState.SUCCEEDED
    assert points.sql(RECORDED) == [("ann", 0)]


def test_a_run_that_is_not_there_or_was_cancelled_is_not_requeued(points: Points) -> None:
    points.fill(10)
    points.model({})
    run = points.planned(points.job())
    cancel(points.producer, run, "ann")

    with pytest.raises(UsageError, match="was cancelled"):
        requeue(points.producer, run, "ann")
    with pytest.raises(UnknownName, match="no run 4711"):
        requeue(points.producer, 4711, "ann")


def test_rows_that_were_deleted_since_are_no_trouble(points: Points, partial: tuple[Job, int]) -> None:
    job, run = partial
    points.sql("DELETE FROM points WHERE id IN (5, 95)")
    points.sql("DELETE FROM predictions.points_job__poison_v1 WHERE id IN (5, 95)")

    requeue(points.producer, run, "ann")

    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_a_failed_run_waits_while_another_run_of_the_job_is_open(points: Points, partial: tuple[Job, int]) -> None:
    job, run = partial
    points.sql("INSERT INTO points VALUES (101, 101.5)")
    other = points.planned(job)

    with pytest.raises(UsageError, match=f"run {other} of job"):
        requeue(points.producer, run, "ann")

    assert len(points.quarantined(job)) == len(BAD)
    points.work(other)
    requeue(points.producer, run, "ann")
    points.work(run)
    assert_accounted(points.engine, job, {})


def test_a_model_version_that_is_gone_is_reported_and_loses_nothing(points: Points, partial: tuple[Job, int]) -> None:
    job, run = partial
    (Path(points.settings.artifacts) / MODEL).rename(points.folder / "gone")
    points.runtime = Runtime(points.settings, name="w2")

    requeue(points.producer, run, "ann")

    assert points.work(run) is RunState.PARTIAL
    assert "is not there: restore the folder" in points.batches(run, "error")[-1]
    (points.folder / "gone").rename(Path(points.settings.artifacts) / MODEL)
    requeue(points.producer, run, "ann")
    points.work(run)
    assert_accounted(points.engine, job, dict.fromkeys(BAD, "ValueError"))
