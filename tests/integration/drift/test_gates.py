"""A finished run that does not pass its gate waits for a person; readers keep the last good one."""

from typing import Any

import pytest

from scorebeat.core.errors import RunHeld, UsageError
from scorebeat.core.states import RunState
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
