"""A requeue of a run that failed as a whole, of one that is still planned, and of one whose rows get one attempt."""

import pytest

from scorebeat.core.errors import RepeatedKey, ScorebeatError, UsageError
from scorebeat.core.states import RunState
from scorebeat.db.ledger import batches
from scorebeat.producer.control.plan import plan
from scorebeat.producer.requests.requeue import requeue
from scorebeat.worker.scoring.recover import record_failure
from tests.integration.requeue.test_whole_runs import ALL, BATCH, begun, planned_after_one, stopped, whole
from tests.support.poison_fixtures import Points, assert_accounted, points

__all__ = ["points"]


@pytest.mark.slow(quick=2)
@pytest.mark.parametrize("policy", ["retry-run", "retry-rows"])
def test_a_requeued_whole_run_is_hidden_until_it_succeeds_whatever_was_shown_since(points: Points, policy: str) -> None:
    points.fill(ALL)
    points.model({"raise": [50]})
    job = points.job(batch_rows=BATCH, on_failure="retry-run")
    run = points.scored(job)
    assert points.run(run).state is RunState.FAILED
    later = begun(points, points.job(batch_rows=BATCH, on_failure=policy), limit=BATCH)
    plan(points.producer, later)
    points.work(later)
    points.mend()

    requeue(points.producer, run, "ann")
    seen = [len(points.view(job))]
    for batch_id in points.pending(run):
        points.attempt(batch_id)
        seen.append(len(points.view(job)))

    assert seen == [BATCH, BATCH, BATCH, ALL]
    assert points.run(run).state is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_a_whole_run_whose_planning_fails_leaves_nothing_but_why_rows_failed(points: Points) -> None:
    points.fill(ALL)
    points.model({"raise": [5]})
    job = points.job(batch_rows=BATCH, on_failure="retry-run")
    run = begun(points, job)

    def score_and_fail() -> None:
        points.attempt(points.pending(run)[0])
        assert points.quarantined(job) == ["5"]
        raise ScorebeatError("the broker refuses")

    planned_after_one(points, run, score_and_fail)

    assert points.run(run).state is RunState.FAILED
    assert points.quarantined(job) == ["5"]
    assert points.sql("SELECT count(*) FROM predictions.points_job__poison_v1") == [0]
    with pytest.raises(UsageError, match="Score them with `scorebeat enqueue points_job`"):
        requeue(points.producer, run, "ann")
    points.mend()
    points.scored(job)
    assert_accounted(points.engine, job, {})


def test_a_whole_run_that_fails_by_a_repeated_key_keeps_only_its_rows_errors(points: Points) -> None:
    points.fill(ALL)
    points.model({"raise": [5]})
    job = points.job(batch_rows=BATCH, on_failure="retry-run")
    run = points.planned(job)
    first, second, _ = points.pending(run)
    points.attempt(first)
    with points.engine.begin() as connection:
        held = batches.claim(connection, second, "w1", points.settings.claim_ttl)
    assert held is not None

    record_failure(points.runtime, held, RepeatedKey("key 21 is given twice"))

    assert points.run(run).state is RunState.FAILED
    assert (points.quarantined(job), points.sql("SELECT count(*) FROM predictions.points_job__poison_v1")) == (
        ["5"],
        [0],
    )
    points.mend()
    assert requeue(points.producer, run, "ann") == 3
    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_a_requeue_of_a_run_that_is_still_planned_is_refused_and_harms_nothing(points: Points) -> None:
    points.fill(ALL)
    points.model({"raise": [5]})
    job = points.job(batch_rows=BATCH)
    run = begun(points, job)

    def score_and_requeue() -> None:
        points.attempt(points.pending(run)[0])
        with pytest.raises(UsageError, match="is still being planned; nothing was put back"):
            requeue(points.producer, run, "ann")

    planned_after_one(points, run, score_and_requeue)

    assert points.work(run) is RunState.PARTIAL
    points.mend()
    assert requeue(points.producer, run, "ann") == 1
    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_a_batch_of_leave_that_is_requeued_has_one_attempt_again(points: Points) -> None:
    points.fill(BATCH)
    points.model({"raise": range(1, BATCH + 1)})
    job = points.job(on_failure="leave")
    run = points.scored(job)

    requeue(points.producer, run, "ann")

    assert points.batches(run, "state, attempts_left") == [("pending", 1)]
    points.work(run)
    assert points.batches(run) == [("dead", 2)]


def test_a_run_whose_predictions_were_dropped_is_not_put_back(points: Points) -> None:
    job = whole(points, rescore="every-run", keep=1)
    run, _ = stopped(points, job)
    points.scored(job)

    with pytest.raises(UsageError, match="was dropped; nothing was put back"):
        requeue(points.producer, run, "ann")

    assert points.run(run).state is RunState.FAILED
