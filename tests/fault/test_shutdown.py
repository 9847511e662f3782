"""A worker that is stopped finishes its batch if it can in time; else the batch is pending at once."""

import os
import signal
from collections.abc import Callable, Iterator
from subprocess import Popen

import pytest

from scorebeat.core.jobs.job import Job
from scorebeat.core.settings import Settings
from scorebeat.core.states import FINAL_RUN, RunState
from scorebeat.producer.control import control_round
from tests.support import poison
from tests.support.fixtures import Programs, kill_group, wait_for
from tests.support.poison_fixtures import Points, assert_accounted, points

pytestmark = pytest.mark.slow

__all__ = ["points"]

Start = Callable[[int], "Popen[bytes]"]
BUDGET = 5


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Claims that outlive each test: what is pending again was released, not rescued."""
    return settings.model_copy(update={"claim_ttl": settings.claim_ttl * 15, "max_attempts": BUDGET})


@pytest.fixture
def start(programs: Programs) -> Iterator[Start]:
    """Starts a worker as `up` and the unit file do, with so many seconds of soft shutdown."""
    started: list[Popen[bytes]] = []

    def worker(seconds: int) -> "Popen[bytes]":
        options = ("-Q", "cpu", "-n", f"w{len(started)}@%h", "-c", "1", "-I", poison.__name__, "-l", "INFO")
        drain = f"worker.soft_shutdown_timeout={seconds}"
        started.append(
            programs.start("celery", "-A", "scorebeat.worker", "worker", *options, drain, REMAP_SIGTERM="SIGQUIT")
        )
        return started[-1]

    yield worker
    for process in started:
        kill_group(process)


def begun(points: Points, harm: str = "", **options: float) -> tuple[Job, int]:
    """A run of one batch whose rows all do this harm; returned when a worker scores it."""
    points.fill(100)
    calls = points.folder / "calls"
    points.model({harm: range(1, 101)}, calls=str(calls), **options)
    job = points.job()
    before = calls.read_text()  # of the trial when it was added
    run = points.planned(job)
    wait_for(lambda: calls.read_text() != before)
    return job, run


def batch(points: Points, run: int) -> tuple[str, int, int, int]:
    """State, attempts, budget and care of the run's only batch."""
    ((state, attempt, left, care),) = points.batches(run, "state, attempt, attempts_left, care")
    return state, attempt, left, care


def until_finished(points: Points, run: int) -> RunState:
    """Be the control until the run is closed."""

    def look() -> RunState | None:
        control_round.run_once(points.producer)
        state = points.run(run).state
        return state if state in FINAL_RUN else None

    state = wait_for(look)
    assert state is not None
    return state


def test_a_worker_that_is_stopped_finishes_its_batch(points: Points, start: Start) -> None:
    worker = start(60)
    job, run = begun(points, seconds_a_row=0.03)

    os.kill(worker.pid, signal.SIGTERM)

    worker.wait(30)  # not for all of the 60 seconds
    assert batch(points, run) == ("committed", 1, BUDGET, 0)
    assert until_finished(points, run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_a_batch_that_is_not_finished_in_time_is_pending_and_keeps_its_budget(points: Points, start: Start) -> None:
    worker = start(1)
    job, run = begun(points, seconds_a_row=0.04)

    os.kill(worker.pid, signal.SIGTERM)
    worker.wait(30)

    assert batch(points, run) == ("pending", 1, BUDGET, 0)
    finished_by_another(points, start, job, run)


@pytest.mark.wide
def test_a_second_signal_releases_the_batch_at_once(points: Points, start: Start, programs: Programs) -> None:
    worker = start(60)
    job, run = begun(points, seconds_a_row=0.04)

    os.kill(worker.pid, signal.SIGTERM)
    wait_for(lambda: "worker.drains" in programs.log(worker))
    os.kill(worker.pid, signal.SIGTERM)
    wait_for(lambda: batch(points, run)[0] == "pending", within=20)

    worker.wait(30)
    assert batch(points, run) == ("pending", 1, BUDGET, 0)
    finished_by_another(points, start, job, run)


@pytest.mark.parametrize("harm", ["raise", pytest.param("raise long", marks=pytest.mark.wide)])
def test_a_worker_that_is_stopped_ends_although_its_batch_fails(points: Points, start: Start, harm: str) -> None:
    """Its process writes the failure to a parent that does not read."""
    worker = start(60)
    _, run = begun(points, harm, first_pause=3)

    os.kill(worker.pid, signal.SIGTERM)

    worker.wait(30)
    assert batch(points, run) == ("pending", 1, BUDGET - 1, 0)


@pytest.mark.parametrize("harm", ["hang deaf", pytest.param("slow words", marks=pytest.mark.wide)])
def test_a_process_that_ignores_the_signal_is_killed_and_its_batch_costs_nothing(
    points: Points, start: Start, harm: str, programs: Programs
) -> None:
    worker = start(2)
    _, run = begun(points, harm)

    os.kill(worker.pid, signal.SIGTERM)

    worker.wait(30)
    assert batch(points, run) == ("pending", 1, BUDGET, 0)
    assert ("process.killed" in programs.log(worker)) == (harm == "hang deaf")


def finished_by_another(points: Points, start: Start, job: Job, run: int) -> None:
    assert points.view(job) == {}
    start(1)
    assert until_finished(points, run) is RunState.SUCCEEDED
    assert points.batches(run) == [("committed", 2)]
    assert_accounted(points.engine, job, {})
