"""The limits that stop a run, and a job: too many bad rows, and too many runs in a row with dead batches."""

import pytest

from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.db.ledger import jobs
from scorebeat.producer.control.plan import plan
from scorebeat.producer.control.ticks.tick import tick
from scorebeat.producer.requests.requeue import requeue
from tests.support.poison_fixtures import Points, assert_accounted, points

pytestmark = pytest.mark.wide

__all__ = ["points"]


@pytest.mark.parametrize(("share", "bad"), [(0, 100), (0.01, 100), (0.2, 200), (-1, 600)])
def test_as_many_bad_rows_as_the_threshold_allows_do_not_stop_a_run(points: Points, share: float, bad: int) -> None:
    points.fill(1000)
    points.model({"raise": range(1, bad + 1)})
    job = points.job(error_threshold=share, batch_rows=1000)

    run = points.scored(job)

    assert points.run(run).state is RunState.PARTIAL
    assert points.batches(run) == [("committed", 1)]
    assert len(points.quarantined(job)) == points.batches(run, "rows_failed")[0] == bad


@pytest.mark.parametrize(("share", "bad"), [(0, 101), (0.01, 101), (0.2, 201)])
def test_one_bad_row_more_fails_the_run_and_requeue_takes_all_back(points: Points, share: float, bad: int) -> None:
    points.fill(1000)
    points.model({"raise": range(2, 2 * bad + 1, 2)})
    job = points.job(error_threshold=share, batch_rows=150)

    run = points.planned(job)
    state = points.work(run)

    assert state is RunState.FAILED
    assert f"of 1000 rows could not be scored, more than error_threshold allows ({bad - 1})" in str(
        points.run(run).reason
    )
    states = [one for one, _ in points.batches(run)]
    assert set(states) == {"committed", "cancelled"}
    points.mend()
    requeue(points.producer, run, "ann")
    assert points.quarantined(job) == []
    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


@pytest.fixture
def broken(points: Points) -> Job:
    """A job whose every run leaves a dead batch, two of which pause it."""
    points.fill(50)
    points.model({"nan": range(1, 51)})
    return points.job(dead_runs=2, schedule="every 1 minute")


def test_runs_in_a_row_that_leave_dead_batches_pause_the_job_with_the_reason(points: Points, broken: Job) -> None:
    points.scored(broken)
    paused = [row(points, broken).paused_by]
    points.scored(broken)

    assert paused == [None]
    assert row(points, broken).paused_by == "scorebeat"
    reason = str(row(points, broken).paused_reason)
    assert reason.startswith("2 runs in a row left dead batches, the last with: NonsenseError")
    assert reason.endswith(f"`scorebeat resume {broken.name}` lets the job go on")
    assert ticked(points, broken) is None


def test_a_paused_job_goes_on_when_it_is_resumed(points: Points, broken: Job) -> None:
    for _ in range(2):
        points.scored(broken)
    points.mend()
    with points.engine.begin() as connection:
        assert jobs.resume(connection, broken.name, "ann")

    run = ticked(points, broken)

    assert run is not None
    plan(points.producer, run)
    points.work(run)
    assert row(points, broken).paused_by is None
    assert_accounted(points.engine, broken, {})


def test_a_run_that_succeeds_in_between_starts_the_count_again(points: Points) -> None:
    points.fill(50)
    points.model({"nan": range(1, 101)})
    job = points.job(dead_runs=2)
    points.scored(job)
    harm = points.mend()
    points.scored(job)
    points.harm(harm)
    points.sql("INSERT INTO points SELECT i, i + 0.5 FROM generate_series(51, 100) i")

    points.scored(job)
    paused = row(points, job).paused_by
    points.scored(job)

    assert paused is None
    assert row(points, job).paused_by == "scorebeat"


def row(points: Points, job: Job) -> jobs.JobRow:
    with points.engine.connect() as connection:
        return jobs.get(connection, job.name)


def ticked(points: Points, job: Job) -> int | None:
    """The result of the next due tick."""
    points.sql("UPDATE scorebeat.jobs SET last_due_at = now() - interval '1 hour'")
    return tick(points.producer, job.name)
