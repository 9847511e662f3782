"""A run succeeds, and is shown whole, only when no row was left out, by a plan cut short or by a stopped batch."""

from typing import Any

import pytest

from scorebeat.core.errors import ScorebeatError, UsageError
from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.db.closing import close_run
from scorebeat.db.ledger.runs import Selection
from scorebeat.producer.control import plan as planner
from scorebeat.producer.control.plan import plan
from scorebeat.producer.control.upkeep.rescue import rescue
from scorebeat.producer.control.upkeep.settle import settle
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.producer.requests.requeue import requeue
from tests.support.poison_fixtures import Points, assert_accounted, points

__all__ = ["points"]

ALL = 60
BATCH = 20


class Died(Exception):
    """A planner that is no more."""


def begun(points: Points, job: Job, **selected: Any) -> int:
    return enqueue(points.producer, Request(job.name, "test", selection=Selection(**selected))).run_id


def planned_after_one(points: Points, run: int, what: Any) -> None:
    """The planner of the run does this when it has stored its first batch."""
    done: list[Any] = []

    def dispatch(*_: Any) -> int:
        if not done:
            done.append(what())
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "GROUP_ROWS", 1)
        patch.setattr(planner, "dispatch", dispatch)
        plan(points.producer, run)


def cut_short(points: Points, job: Job) -> int:
    """A run whose planner died after the first of its batches."""

    def die() -> None:
        raise Died

    run = begun(points, job)
    with pytest.raises(Died):
        planned_after_one(points, run, die)
    points.sql("UPDATE scorebeat.runs SET plan_expires_at = now() - interval '1 s' WHERE id = :run", run=run)
    rescue(points.producer)
    return run


def whole(points: Points, **options: Any) -> Job:
    """A job whose run over all points succeeded, and is shown."""
    points.fill(ALL)
    points.model({})
    job = points.job(batch_rows=BATCH, **options)
    points.scored(job)
    assert len(points.view(job)) == ALL
    return job


def changed(points: Points) -> None:
    points.sql("UPDATE points SET x = x + 1000")


def is_fresh(points: Points, job: Job) -> bool:
    return points.view(job) == dict(points.sql("SELECT id, 2 * x FROM points"))


@pytest.mark.slow(quick=2)
@pytest.mark.parametrize(("policy", "end"), [("retry-rows", RunState.PARTIAL), ("retry-run", RunState.FAILED)])
def test_a_generation_whose_plan_was_cut_short_is_never_shown(points: Points, policy: str, end: RunState) -> None:
    job = whole(points, rescore="every-run", on_failure=policy)

    run = cut_short(points, job)

    assert points.work(run) is end
    assert "planning was cut short" in str(points.run(run).reason)
    assert len(points.view(job)) == ALL
    changed(points)
    assert points.run(points.scored(job)).state is RunState.SUCCEEDED
    assert is_fresh(points, job)


def test_a_run_to_be_shown_whole_is_deleted_when_its_plan_was_cut_short(points: Points) -> None:
    points.fill(ALL)
    points.model({})
    job = points.job(batch_rows=BATCH, on_failure="retry-run")
    run = cut_short(points, job)

    assert points.work(run) is RunState.FAILED

    assert points.view(job) == {}
    assert points.sql("SELECT count(*) FROM predictions.points_job__poison_v1") == [0]
    with pytest.raises(UsageError, match="failed before all of it was planned, and nothing of it was kept"):
        requeue(points.producer, run, "ann")
    points.scored(job)
    assert_accounted(points.engine, job, {})


def test_a_plan_cut_short_ends_partial_and_the_next_run_takes_the_rest(points: Points) -> None:
    points.fill(ALL)
    points.model({})
    job = points.job(batch_rows=BATCH)

    run = cut_short(points, job)

    assert points.work(run) is RunState.PARTIAL
    reason = str(points.run(run).reason)
    assert "test died; the rows that were not planned stay pending for the next run" in reason
    assert requeue(points.producer, run, "ann") == 0
    assert points.run(points.scored(job)).state is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


@pytest.mark.slow
def test_a_run_that_failed_while_it_was_planned_never_succeeds_by_a_requeue(points: Points) -> None:
    job = whole(points, rescore="every-run")
    run = begun(points, job)

    def fails() -> None:
        raise ScorebeatError("the broker refuses")

    planned_after_one(points, run, fails)
    assert points.run(run).state is RunState.FAILED
    assert requeue(points.producer, run, "ann") == 1

    assert points.work(run) is RunState.PARTIAL
    assert "planning was cut short" in str(points.run(run).reason)
    assert len(points.view(job)) == ALL


def stopped(points: Points, job: Job) -> tuple[int, int]:
    """A run that failed as a whole with its first batch committed and two stopped; the first of those."""
    run = points.planned(job)
    points.attempt(points.pending(run)[0])
    second = points.pending(run)[0]
    with points.engine.begin() as connection:
        close_run.fail(connection, run, "too much is wrong")
    return run, second


def test_a_run_with_a_stopped_batch_is_partial_and_a_requeue_puts_it_back(points: Points) -> None:
    job = whole(points, rescore="every-run")
    changed(points)
    run, second = stopped(points, job)

    assert requeue(points.producer, run, "ann", batch_id=second) == 1
    assert points.work(run) is RunState.PARTIAL
    assert points.run(run).reason == (
        f"1 of 3 batches were stopped; `scorebeat requeue {run}` puts back what it left out"
    )
    assert not is_fresh(points, job)
    assert len(points.view(job)) == ALL

    assert requeue(points.producer, run, "ann") == 1
    assert points.work(run) is RunState.SUCCEEDED
    assert is_fresh(points, job)


def test_one_bad_row_keeps_no_generation_from_being_fresh(points: Points) -> None:
    points.fill(ALL)
    points.model({"raise": [5]})
    job = points.job(batch_rows=BATCH, rescore="every-run")

    for _ in range(3):
        points.sql("UPDATE points SET x = x + 1000 WHERE id > 10")
        assert points.run(points.scored(job)).state is RunState.PARTIAL
        assert points.view(job) == dict(points.sql("SELECT id, 2 * x FROM points WHERE id <> 5"))


def test_a_generation_with_every_row_in_quarantine_is_not_shown(points: Points) -> None:
    job = whole(points, rescore="every-run")
    run = points.planned(job)
    quarantine_all(points, run)

    assert settle(points.producer, run) is RunState.PARTIAL
    assert len(points.view(job)) == ALL


def quarantine_all(points: Points, run: int) -> None:
    points.sql(
        "UPDATE scorebeat.batches SET state = 'committed', rows_failed = rows_planned, sent_at = NULL,"
        " finished_at = now() WHERE run_id = :run",
        run=run,
    )


def test_a_run_over_some_rows_is_never_shown_as_a_generation(points: Points) -> None:
    job = whole(points, rescore="every-run")
    some = begun(points, job, limit=10)
    plan(points.producer, some)

    assert points.work(some) is RunState.SUCCEEDED

    assert len(points.view(job)) == ALL
    changed(points)
    points.scored(job)
    assert is_fresh(points, job)


def test_a_generation_that_a_requeue_completes_late_takes_no_newer_one_from_readers(points: Points) -> None:
    job = whole(points, rescore="every-run", keep=10)
    run, _ = stopped(points, job)
    changed(points)
    points.scored(job)

    requeue(points.producer, run, "ann")

    assert points.work(run) is RunState.SUCCEEDED
    assert is_fresh(points, job)
