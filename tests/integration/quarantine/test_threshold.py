"""The error threshold: judged on the whole run, whoever commits, dies or closes it."""

from typing import Any

import pytest

from scorebeat.core.states import RunState
from scorebeat.producer.control import plan as planner
from scorebeat.producer.control.plan import plan
from scorebeat.producer.control.upkeep.settle import settle
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.producer.requests.requeue import requeue
from scorebeat.worker.scoring import commit
from scorebeat.worker.scoring.attempt import Attempt
from tests.support.poison_fixtures import Points, assert_accounted, points

__all__ = ["points"]


class Died(BaseException):
    """The process ends here."""


def planned_after(points: Points, monkeypatch: pytest.MonkeyPatch, **options: Any) -> int:
    """A run of which the first batch is scored while the rest is not yet planned."""
    job = points.job(**options)
    run = enqueue(points.producer, Request(job.name, "test")).run_id
    scored: list[int] = []

    def score_the_first(*_: object) -> int:
        if not scored:
            scored.extend(points.pending(run))
            points.attempt(scored[0])
        return 0

    with monkeypatch.context() as patch:
        patch.setattr(planner, "dispatch", score_the_first)
        plan(points.producer, run)
    assert points.batches(run, "state")[0] != "pending"
    return run


@pytest.mark.slow
def test_a_run_is_not_judged_on_the_part_of_it_that_is_planned(points: Points, monkeypatch: pytest.MonkeyPatch) -> None:
    points.fill(20_000)
    points.model({"raise": range(1, 102)})

    run = planned_after(points, monkeypatch, batch_rows=300)

    assert points.run(run).state is RunState.RUNNING
    assert points.work(run) is RunState.PARTIAL
    assert points.batches(run, "sum(rows_failed) OVER ()")[0] == 101


def test_a_run_that_allows_no_failures_is_judged_while_it_is_planned(
    points: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    points.fill(20_000)
    points.model({"raise": range(1, 102)})

    run = planned_after(points, monkeypatch, batch_rows=300, error_threshold=0)

    assert points.run(run).state is RunState.FAILED
    assert "more than error_threshold allows (100)" in str(points.run(run).reason)


def test_a_row_quarantined_during_the_plan_counts_at_the_runs_end(
    points: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    points.fill(1_000)
    points.model({"raise": range(1, 102)})

    run = planned_after(points, monkeypatch, batch_rows=300)

    assert points.work(run) is RunState.FAILED
    assert "101 of 1000 rows could not be scored" in str(points.run(run).reason)


def _nothing(_: Attempt) -> None:
    """The run was closed by the control tick, between the commit and this look."""


def _death(_: Attempt) -> None:
    raise Died


@pytest.mark.slow(quick=2)
@pytest.mark.parametrize("missed", [_nothing, _death])
def test_a_run_past_its_threshold_fails_though_its_last_worker_died_silently(
    points: Points, monkeypatch: pytest.MonkeyPatch, missed: Any
) -> None:
    points.fill(1_000)
    points.model({"raise": range(1, 400, 2)})
    job = points.job(batch_rows=1_000, error_threshold=0)
    run = points.planned(job)
    with monkeypatch.context() as patch:
        patch.setattr(commit, "stop_if_too_many", missed)
        try:
            points.attempt(points.pending(run)[0])
        except Died:
            settle(points.producer, run)

    failed = points.run(run)
    assert failed.state is RunState.FAILED
    assert "200 of 1000 rows could not be scored, more than error_threshold allows (100)" in str(failed.reason)
    points.mend()
    requeue(points.producer, run, "ann")
    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


@pytest.mark.slow
def test_a_run_without_a_threshold_ends_partial_whatever_failed(points: Points) -> None:
    points.fill(1_000)
    points.model({"raise": range(1, 400, 2)})

    run = points.scored(points.job(batch_rows=1_000, error_threshold=-1))

    assert points.run(run).state is RunState.PARTIAL
