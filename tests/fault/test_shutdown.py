"""A worker that is told to stop finishes its batch if it can in time; else the batch is pending at once."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from subprocess import Popen

import pytest

from core.jobs import Job
from core.settings import Settings
from core.states import FINAL_RUN, RunState
from producer import control
from tests import poison
from tests.fixtures import Programs, kill_group, wait_for
from tests.poison_fixtures import Points, assert_accounted, points

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
    started = []

    def worker(seconds: int) -> "Popen[bytes]":
        options = ("-Q", "cpu", "-n", f"w{len(started)}@%h", "-c", "1", "-I", poison.__name__, "-l", "INFO")
        quiet = ("--without-gossip", "--without-mingle", f"worker.soft_shutdown_timeout={seconds}")
        started.append(
            programs.start("celery", "-A", "worker", "worker", *options, *quiet, REMAP_SIGTERM="SIGQUIT")
        )
        return started[-1]

    yield worker
    for process in started:
        kill_group(process)


def begun(points: Points, seconds: float) -> tuple[Job, int]:
    """A run of one batch that takes so long to score; returned when a worker scores it."""
    points.fill(100)
    calls = points.folder / "calls"
    points.model({}, seconds_a_row=seconds / 100, calls=str(calls))
    job = points.job()
    before = calls.read_text()  # of the trial when it was added
    run = points.planned(job)
    wait_for(lambda: calls.read_text() != before)
    return job, run


def batch(points: Points, run: int) -> tuple[str, int, int, int]:
    return tuple(points.batches(run, "state, attempt, attempts_left, care")[0])


def finished(points: Points, run: int) -> RunState:
    """Be the control until the run is closed."""
    return wait_for(lambda: (control.run_once(points.producer), points.run(run).state)[1] in FINAL_RUN) and points.run(
        run
    ).state


def test_a_worker_that_is_told_to_stop_finishes_its_batch(points: Points, start: Start) -> None:
    worker = start(4)
    job, run = begun(points, 2)

    os.kill(worker.pid, signal.SIGTERM)

    worker.wait(15)
    assert batch(points, run) == ("committed", 1, BUDGET, 0)
    assert finished(points, run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


@pytest.mark.parametrize("how", ["in time", "at once"])
def test_a_batch_that_is_not_finished_is_pending_at_once_and_keeps_its_budget(
    points: Points, start: Start, how: str
) -> None:
    worker = start(1 if how == "in time" else 3)
    job, run = begun(points, 9)

    os.kill(worker.pid, signal.SIGTERM)
    if how == "at once":
        time.sleep(0.5)
        os.kill(worker.pid, signal.SIGQUIT)
    wait_for(lambda: batch(points, run)[0] == "pending", within=15)

    assert batch(points, run) == ("pending", 1, BUDGET, 0)
    worker.wait(15)
    assert batch(points, run) == ("pending", 1, BUDGET, 0)
    assert points.view(job) == {}
    start(1)
    assert finished(points, run) is RunState.SUCCEEDED
    assert points.batches(run) == [("committed", 2)]
    assert_accounted(points.engine, job, {})
