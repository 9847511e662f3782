"""Workers that are killed, stopped or stalled in the middle of a batch."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scorebeat.core.states import RunState
from tests.support.fixtures import kill_group, wait_for
from tests.support.system import GATED, System, assert_scored_once, children, own_system

Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system")) as made:
        made.programs.control()
        yield made


@pytest.fixture
def start(system: System) -> Iterator[Start]:
    """Starts a worker of one process; it is gone after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def worker() -> "subprocess.Popen[bytes]":
        started.append(system.programs.worker("cpu"))
        return started[-1]

    yield worker
    for process in started:
        kill_group(process)


@pytest.mark.slow
def test_a_batch_whose_worker_was_killed_is_finished_by_another(system: System, start: Start) -> None:
    job = system.job("killed_worker", batch_rows=200, where=GATED)
    first = start()
    with system.closed_gate():
        run = system.enqueue(job)
        system.at_the_gate()
        kill_group(first)
        second = start()
        wait_for(lambda: system.batches(run)[0][:2] == ("claimed", 2))
        expired = system.query("SELECT now() - created_at FROM scorebeat.runs WHERE id = :run", run=run)[0][0]

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert system.worker_of(run) == second.pid
    assert_scored_once(system, job)
    attempts, seconds = lost(system, run)
    assert attempts == 1
    assert system.settings.claim_ttl.total_seconds() <= seconds <= expired.total_seconds()


@pytest.mark.slow
def test_the_claim_of_a_killed_process_is_freed_by_its_parent_at_once(system: System, start: Start) -> None:
    job = system.job("killed_child", batch_rows=200, where=GATED)
    worker = start()
    with system.closed_gate():
        run = system.enqueue(job)
        system.at_the_gate()
        (child,) = children(worker.pid)
        os.kill(child, signal.SIGKILL)
        wait_for(lambda: system.batches(run)[0][:2] == ("claimed", 2))
        again = system.query("SELECT now() - created_at FROM scorebeat.runs WHERE id = :run", run=run)[0][0]

    assert system.until_finished(run) is RunState.SUCCEEDED
    attempts, seconds = lost(system, run)
    assert attempts == 1
    assert 0 < seconds <= again.total_seconds()
    wait_for(lambda: "process.died" in system.programs.log(worker))  # written after the claim was freed
    assert f"batch.rescued batch={system.first_batch(run)}" not in system.programs.logs()
    assert worker.poll() is None
    assert_scored_once(system, job)


def test_a_killed_parent_ends_its_processes_and_another_worker_gets_their_batch(system: System, start: Start) -> None:
    job = system.job("killed_parent", batch_rows=200, where=GATED)
    first = start()
    with system.closed_gate():
        run = system.enqueue(job)
        system.at_the_gate()
        (child,) = children(first.pid)
        os.kill(first.pid, signal.SIGKILL)
        wait_for(lambda: is_gone(child))
        second = start()
        wait_for(lambda: system.batches(run)[0][:2] == ("claimed", 2))

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert system.worker_of(run) == second.pid
    assert_scored_once(system, job)


def lost(system: System, run: int) -> tuple[int, float]:
    """Number and seconds of the run's attempts that were lost."""
    wanted = "SELECT attempts, device_seconds FROM scorebeat.run_usage WHERE run_id = :run AND outcome = 'lost'"
    ((attempts, seconds),) = system.query(wanted, run=run)
    return attempts, seconds


def is_gone(pid: int) -> bool:
    """The process has ended; whoever inherited it may not have looked yet."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.slow
def test_a_worker_that_slept_past_its_claim_writes_nothing(system: System, start: Start) -> None:
    job = system.job("stalled", batch_rows=200, where=GATED)
    late = start()
    with system.closed_gate():
        run = system.enqueue(job)
        system.at_the_gate()
        os.killpg(late.pid, signal.SIGSTOP)
        prompt = start()
        # frozen while it renews its claim, it keeps the row locked until PostgreSQL ends its session, after 60 seconds
        wait_for(lambda: system.batches(run)[0][:2] == ("claimed", 2), 100)

    assert system.until_finished(run) is RunState.SUCCEEDED
    os.killpg(late.pid, signal.SIGCONT)
    wait_for(lambda: f"claim.lost run={run} batch={system.first_batch(run)} attempt=1" in system.programs.log(late))
    assert system.batches(run)[0][:2] == ("committed", 2)
    assert system.worker_of(run) == prompt.pid
    assert_scored_once(system, job)


@pytest.mark.wide
def test_a_worker_that_receives_a_stop_signal_finishes_its_batch_first(system: System, start: Start) -> None:
    job = system.job("stopped", batch_rows=200, where=GATED)
    worker = start()
    with system.closed_gate():
        run = system.enqueue(job)
        system.at_the_gate()
        worker.terminate()
        wait_for(lambda: "Warm shutdown" in system.programs.log(worker))
        system.until_renewed(run)
        assert system.batches(run)[0][:2] == ("claimed", 1)

    assert worker.wait(20) == 0
    assert system.until_finished(run) is RunState.SUCCEEDED
    assert system.batches(run)[0][:2] == ("committed", 1)
    assert system.query("SELECT name FROM scorebeat.workers WHERE name LIKE :end", end=f"%/{worker.pid}") == []
    assert_scored_once(system, job)
