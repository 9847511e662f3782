"""A job that gets another policy or version, or leaves jobs.toml, still shows what its runs made before."""

from datetime import timedelta

import pytest

from scorebeat.core.errors import UsageError
from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.producer import retention
from scorebeat.producer.requests.apply import apply, remove_all
from scorebeat.producer.requests.requeue import cancel, requeue
from scorebeat.producer.versions import drop, publish
from tests.support.poison_fixtures import MODEL, Points, points

pytestmark = pytest.mark.wide

__all__ = ["points"]


def whole_since(points: Points, bad: list[int]) -> tuple[Job, int]:
    """The job is shown whole or not at all since its first run, which quarantined rows; another row is shown so."""
    points.fill(30)
    points.model({"raise": bad})
    first = points.scored(points.job(batch_rows=10))
    job = points.job(batch_rows=10, on_failure="retry-run")
    points.sql("INSERT INTO points VALUES (99, 99.5)")
    assert points.run(points.scored(job)).state is RunState.SUCCEEDED
    return job, first


def test_rows_that_a_requeue_mends_are_seen_though_the_job_is_shown_whole_by_now(points: Points) -> None:
    job, first = whole_since(points, [7])
    points.mend()

    requeue(points.producer, first, "ann")

    assert points.work(first) is RunState.SUCCEEDED
    assert points.view(job) == dict(points.sql("SELECT id, 2 * x FROM points"))


def test_rows_of_a_requeue_that_mends_not_all_are_seen_after_the_next_whole_run(points: Points) -> None:
    job, first = whole_since(points, [7, 8])
    points.mend()
    points.harm({"raise": [8.5]})

    requeue(points.producer, first, "ann")
    assert points.work(first) is RunState.PARTIAL
    points.sql("INSERT INTO points VALUES (100, 100.5)")
    points.scored(job)

    assert points.view(job) == dict(points.sql("SELECT id, 2 * x FROM points WHERE id <> 8"))


def test_the_rows_left_by_a_cancelled_whole_run_are_shown_even_after_a_prune(points: Points) -> None:
    points.fill(20)
    points.model({})
    job = points.job(batch_rows=10, on_failure="retry-run")
    other = job.model_copy(update={"name": "other_job"})
    apply(points.producer, [job, other], "ann")
    cut = points.planned(job)
    points.attempt(points.pending(cut)[0])
    cancel(points.producer, cut, "ann")
    points.scored(other)  # the highest batch, which stays in any case
    points.sql("DELETE FROM points WHERE id > 10")

    retention.run(points.producer, timedelta(0), "ann", even_most=True)
    assert points.run(points.scored(job)).state is RunState.SUCCEEDED

    assert points.view(job) == dict(points.sql("SELECT id, 2 * x FROM points"))
    assert retention.run(points.producer, timedelta(0), "ann").counts["batches"] == 2  # nobody needs them any more


@pytest.mark.parametrize("pinned", [1, 2])
def test_a_run_of_a_job_that_was_pinned_and_left_jobs_toml_ends_well(points: Points, pinned: int) -> None:
    points.fill(20)
    points.model({})
    points.model({}, another=2)
    publish.publish_anyway(points.producer, MODEL, 2, "ann")
    job = points.job(rescore="every-run", batch_rows=10)
    run = points.planned(job)

    points.job(rescore="every-run", batch_rows=10, model=f"{MODEL}/{pinned}")
    remove_all(points.producer, "ann")

    assert points.work(run) is RunState.SUCCEEDED
    assert len(points.view(job)) == (20 if pinned == 2 else 0)


def test_a_job_is_not_pinned_to_a_version_that_was_dropped(points: Points) -> None:
    points.fill(20)
    points.model({})
    points.model({}, another=2)
    drop.drop(points.producer, MODEL, 2, "ann")
    points.job()

    with pytest.raises(UsageError, match=r"jobs\.points_job: model poison/2 was dropped on .* Nothing was applied"):
        points.job(model=f"{MODEL}/2")

    assert points.sql("SELECT spec ->> 'model' FROM scorebeat.jobs") == [MODEL]
