"""A finished run that does not pass its gate waits for a person; readers keep the last good one."""

from typing import Any

import pytest

from scorebeat.core.errors import RunHeld, UsageError
from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.producer.control.plan import plan
from scorebeat.producer.requests import change_job
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.producer.requests.release import discard, release
from scorebeat.producer.requests.requeue import requeue
from tests.integration.drift.test_drift import normal
from tests.support.poison_fixtures import Points, points

__all__ = ["points"]

ANEW: dict[str, Any] = {"rescore": "every-run", "gate": {"drift": "hold"}}
WHOLE: dict[str, Any] = {"on_failure": "retry-run", "gate": {"min_rows": 100}}


@pytest.fixture
def shifted(points: Points) -> tuple[Points, int]:
    """Two runs of a job with a gate, the second over data that moved by half a standard deviation."""
    normal(points, 5_000)
    points.model({})
    job = points.job(**ANEW)
    assert points.work(points.planned(job)) is RunState.SUCCEEDED
    normal(points, 5_000, mean=0.5, seed=0.3)
    return points, points.scored(job)


def mean_of_readers(points: Points) -> float:
    return float(points.sql("SELECT avg(value) FROM predictions.points_job")[0])


def test_a_run_that_drifted_is_held_until_a_person_shows_it(shifted: tuple[Points, int]) -> None:
    points, run_id = shifted
    run = points.run(run_id)
    assert run.state is RunState.HELD
    assert run.reason is not None
    assert "drift of input x" in run.reason
    assert f"scorebeat release {run_id}" in run.reason
    assert mean_of_readers(points) == pytest.approx(0, abs=0.1)
    with pytest.raises(UsageError, match="held by the gate"):
        requeue(points.producer, run_id, "ann")

    release(points.producer, run_id, "ann", "the campaign began")
    assert points.run(run_id).state is RunState.SUCCEEDED
    assert mean_of_readers(points) == pytest.approx(1, abs=0.1)
    assert points.sql("SELECT by, details ->> 'why' FROM scorebeat.actions WHERE action = 'run.released'") == [
        ("ann", "the campaign began")
    ]
    with pytest.raises(UsageError, match="no gate holds it"):
        release(points.producer, run_id, "ann")


def test_a_discarded_generation_is_never_shown_and_the_next_run_is(shifted: tuple[Points, int]) -> None:
    points, run_id = shifted
    discard(points.producer, run_id, "ann", "a wrong load")
    run = points.run(run_id)
    assert (run.state, run.reason and "a wrong load" in run.reason) == (RunState.FAILED, True)
    assert points.sql("SELECT count(*) FROM predictions.points_job__poison_v1_g2") == [0]
    with pytest.raises(UsageError, match="was discarded"):
        requeue(points.producer, run_id, "ann")
    normal(points, 5_000, seed=0.4)
    assert points.run(points.scored(points.run(run_id).job)).state is RunState.SUCCEEDED
    assert len(points.view(points.run(run_id).job)) == 5_000


def test_an_older_held_run_never_replaces_a_newer_one(shifted: tuple[Points, int]) -> None:
    points, run_id = shifted
    normal(points, 5_000, seed=0.4)
    assert points.run(points.scored(points.run(run_id).job)).state is RunState.SUCCEEDED
    with pytest.raises(UsageError, match="a newer run"):
        release(points.producer, run_id, "ann")
    discard(points.producer, run_id, "ann")


def test_while_a_whole_run_is_held_no_other_begins_and_its_rows_can_be_scored_again(points: Points) -> None:
    points.fill(20)
    points.model({})
    job = points.job(**WHOLE)
    run_id = points.scored(job)
    assert points.run(run_id).state is RunState.HELD
    assert points.view(job) == {}
    with pytest.raises(RunHeld, match=f"scorebeat release {run_id}"):
        points.planned(job)
    discard(points.producer, run_id, "ann")
    assert points.sql("SELECT count(*) FROM predictions.points_job__poison_v1") == [0]

    points.sql("INSERT INTO points SELECT i, i + 0.5 FROM generate_series(21, 200) i")
    assert points.work(points.planned(job)) is RunState.SUCCEEDED
    assert len(points.view(job)) == 200


def test_a_whole_run_that_is_released_is_shown_at_once(points: Points) -> None:
    points.fill(20)
    points.model({})
    job = points.job(**WHOLE)
    run_id = points.scored(job)
    release(points.producer, run_id, "ann")
    assert points.run(run_id).state is RunState.SUCCEEDED
    assert len(points.view(job)) == 20


def test_a_job_whose_rows_are_seen_at_once_is_paused_after_the_run(points: Points) -> None:
    points.fill(20)
    points.model({})
    job = points.job(gate={"min_rows": 100})
    assert points.work(points.planned(job)) is RunState.SUCCEEDED
    ((by, reason),) = points.sql("SELECT paused_by, paused_reason FROM scorebeat.jobs")
    assert by == "scorebeat"
    assert "20 rows were scored, fewer than 100" in reason
    assert points.work(points.planned(job)) is RunState.SUCCEEDED  # nothing is pending: a run without a row passes


@pytest.mark.parametrize(
    ("gate", "harm", "expected"),
    [
        ({"constant": "hold"}, {"nan": range(1, 201)}, "output value is missing in all 200"),
        ({"missing": 0.1}, {"raise": range(1, 31)}, "15.0% of the rows have no prediction"),
        ({"missing": 0.1}, {"nan": range(1, 31)}, "15.0% of the rows have no prediction"),
        ({"min_rows": 201}, {}, "200 rows were scored"),
        ({"constant": "hold", "missing": 0.2}, {"raise": range(1, 31)}, None),
    ],
)
def test_each_condition_holds_by_itself(points: Points, gate: Any, harm: Any, expected: str | None) -> None:
    points.fill(200)
    points.model(harm)
    job = points.job(rescore="every-run", gate=gate, allow_nan=True, error_threshold=-1)
    run = points.run(points.scored(job))
    assert (run.state is RunState.HELD) == (expected is not None)
    assert expected is None or (run.reason is not None and expected in run.reason)


def test_a_run_that_was_released_is_not_held_again_when_it_is_requeued(points: Points) -> None:
    points.fill(20)
    points.model({"raise": [7]})
    job = points.job(rescore="every-run", error_threshold=-1, gate={"min_rows": 100})
    run_id = points.scored(job)
    assert points.run(run_id).state is RunState.HELD
    release(points.producer, run_id, "ann")
    assert points.run(run_id).state is RunState.PARTIAL
    assert len(points.view(job)) == 19

    points.mend()
    assert requeue(points.producer, run_id, "ann") == 1
    assert points.work(run_id) is RunState.SUCCEEDED
    assert len(points.view(job)) == 20


def held_whole_run(points: Points, **options: Any) -> tuple[Job, int]:
    """A job whose runs are shown whole, with one that failed, and one of 20 rows that is held."""
    points.fill(20)
    points.model({"raise": [7]})
    job = points.job(on_failure="retry-run", run_attempts=1, gate={"min_rows": 100}, error_threshold=-1, **options)
    failed = points.scored(job)
    assert points.run(failed).state is RunState.FAILED
    points.mend()
    held = points.scored(job)
    assert points.run(held).state is RunState.HELD
    assert points.view(job) == {}
    return job, failed


def test_no_requeue_and_no_other_policy_shows_what_is_held(points: Points) -> None:
    job, failed = held_whole_run(points)
    with pytest.raises(UsageError, match=r"cannot go on while run 2 .* is held"):
        requeue(points.producer, failed, "ann")
    for policy in ({"rescore": "every-run"}, {"on_failure": "retry-rows"}):
        other = points.job(**policy)
        with pytest.raises(RunHeld):
            points.planned(other)
        assert points.view(job) == {}


def test_nothing_of_a_held_run_is_dropped_before_a_person_decides(points: Points) -> None:
    job, _ = held_whole_run(points)
    with pytest.raises(UsageError, match="run 2 is held by the gate"):
        change_job.drop(points.producer, job.name, "ann")
    discard(points.producer, 2, "ann")
    change_job.drop(points.producer, job.name, "ann")


def test_a_generation_of_a_job_that_adds_rows_lets_no_other_run_begin(points: Points) -> None:
    points.fill(20)
    points.model({})
    job = points.job()
    points.scored(job)
    gated = points.job(gate={"min_rows": 100})
    anew = enqueue(points.producer, Request(job.name, "test", anew=True)).run_id
    plan(points.producer, anew)
    assert points.work(anew) is RunState.HELD
    points.sql("INSERT INTO points VALUES (21, 21.5)")
    with pytest.raises(RunHeld):
        points.planned(gated)
    release(points.producer, anew, "ann")
    assert points.work(points.planned(points.job())) is RunState.SUCCEEDED
    assert len(points.view(job)) == 21


def test_a_discarded_run_is_no_reference_and_waits_for_no_other(points: Points) -> None:
    normal(points, 2_000, mean=9.0)
    points.model({})
    job = points.job(rescore="every-run", gate={"min_rows": 5_000, "drift": "hold"})
    first = points.scored(job)
    assert points.run(first).state is RunState.HELD
    discard(points.producer, first, "ann")
    normal(points, 6_000)
    assert points.run(points.scored(job)).state is RunState.SUCCEEDED


def test_constant_outputs_are_judged_by_the_run_alone(points: Points) -> None:
    normal(points, 2_000)
    points.model({})
    gated: dict[str, Any] = {"rescore": "every-run", "gate": {"constant": "hold"}}
    job = points.job(**gated)
    points.scored(job)
    normal(points, 600, seed=0.3)
    assert points.run(points.scored(job)).state is RunState.SUCCEEDED
    points.sql("UPDATE points SET x = 0")
    assert points.run(points.scored(job)).state is RunState.HELD


def test_some_bad_rows_do_not_turn_the_comparison_off(points: Points) -> None:
    normal(points, 2_000)
    points.sql("UPDATE points SET x = 1.5 WHERE id <= 15")
    points.model({"raise": [1]})
    job = points.job(**ANEW, error_threshold=-1)
    points.scored(job)
    normal(points, 2_000, mean=2.0)
    points.sql("UPDATE points SET x = 1.5 WHERE id <= 15")
    assert points.run(points.scored(job)).state is RunState.HELD
