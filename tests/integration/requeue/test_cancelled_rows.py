"""Rows that a cancelled run quarantined are pending: a requeue reports it, a preview counts them, a run scores them."""

from collections.abc import Callable

import pytest

from scorebeat.core.errors import UsageError
from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.producer.control.upkeep import settle
from scorebeat.producer.requests.preview import preview
from scorebeat.producer.requests.requeue import cancel, requeue
from tests.support.poison_fixtures import Points, assert_accounted, points

__all__ = ["points"]

ALL = 30


def quarantined_then_cancelled(points: Points, policy: str) -> tuple[Job, int]:
    """One of three batches was worked on, and row 5 was quarantined."""
    points.fill(ALL)
    points.model({"raise": [5]})
    job = points.job(batch_rows=10, on_failure=policy)
    run = points.planned(job)
    points.attempt(points.pending(run)[0])
    return job, run


def requeued_in_part_then_cancelled(points: Points, policy: str) -> tuple[Job, int]:
    """The run had ended with rows 5 and 25 in quarantine; one of them was requeued."""
    points.fill(ALL)
    points.model({"raise": [5, 25]})
    job = points.job(batch_rows=10, on_failure=policy)
    run = points.scored(job)
    assert points.run(run).state is RunState.PARTIAL
    last = points.sql("SELECT max(id) FROM scorebeat.batches WHERE run_id = :run", run=run)[0]
    assert requeue(points.producer, run, "ann", batch_id=last) == 1
    return job, run


def failed_by_the_threshold_requeued_then_cancelled(points: Points, policy: str) -> tuple[Job, int]:
    """Every other row of the first batches was in quarantine; one batch was requeued."""
    points.fill(ALL * 10)
    points.model({"raise": list(range(1, 251, 2))})
    job = points.job(batch_rows=50, on_failure=policy, error_threshold=0.01)
    run = points.planned(job)
    first = points.pending(run)[0]
    for batch_id in points.pending(run):
        points.attempt(batch_id)
    settle.settle(points.producer, run)
    assert points.run(run).state is RunState.FAILED
    assert requeue(points.producer, run, "ann", batch_id=first) == 1
    return job, run


CANCELLED: dict[str, tuple[Callable[[Points, str], tuple[Job, int]], str]] = {
    "rows are tried again by requeue": (quarantined_then_cancelled, "retry-rows"),
    "the run is shown whole": (quarantined_then_cancelled, "retry-run"),
    "failures are left": (quarantined_then_cancelled, "leave"),
    "requeued in part": (requeued_in_part_then_cancelled, "retry-rows"),
    "failed by the threshold": (failed_by_the_threshold_requeued_then_cancelled, "retry-rows"),
}


@pytest.mark.slow(quick=5)
@pytest.mark.parametrize("case", CANCELLED)
def test_quarantined_rows_of_a_cancelled_run_are_pending_and_the_next_scores_them(points: Points, case: str) -> None:
    make, policy = CANCELLED[case]
    job, run = make(points, policy)

    assert cancel(points.producer, run, "ann")
    with pytest.raises(UsageError, match=r"its rows are pending. Score them with `scorebeat enqueue points_job`"):
        requeue(points.producer, run, "ann")
    assert points.quarantined(job) != []  # they keep their errors until they are tried
    unscored = "SELECT count(*) FROM points WHERE id NOT IN (SELECT id FROM predictions.points_job__poison_v1)"
    assert preview(points.producer, job.name).rows == points.sql(unscored)[0]
    points.mend()

    assert points.run(points.scored(job)).state is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_a_row_that_fails_again_is_reported_in_the_run_that_retried_it(points: Points) -> None:
    job, run = quarantined_then_cancelled(points, "retry-rows")
    cancel(points.producer, run, "ann")

    again = points.scored(job)

    assert points.run(again).state is RunState.PARTIAL
    assert points.quarantined(job, "(SELECT b.run_id FROM scorebeat.batches b WHERE b.id = z.batch_id)") == [again]
    assert_accounted(points.engine, job, {5: "ValueError"})
    assert preview(points.producer, job.name).rows == 0
