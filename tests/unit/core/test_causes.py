"""A batch's error names the cause of its process's death."""

import os
import time
from collections.abc import Callable

import pytest
from billiard.exceptions import WorkerLostError

from scorebeat.worker.lifecycle import deadlines
from scorebeat.worker.lifecycle.deadlines import Deadlines
from scorebeat.worker.lifecycle.signals import cause_of_death
from scorebeat.worker.scoring.watchdog import within

HUNG = "took longer than its time limit"


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Deadlines:
    """The memory of a worker whose one process this is."""
    monkeypatch.setattr(deadlines, "_shared", None)
    monkeypatch.setenv("_SCOREBEAT_DEADLINES", "")  # taken away again at the end
    deadlines.share()
    found = deadlines.shared()
    assert found is not None
    return found


def error_of(how: str, pid: int | None = None) -> str:
    return cause_of_death(WorkerLostError(f"Worker exited prematurely: {how} Job: 3."), pid or os.getpid())


def hung() -> None:
    with within(0.1):
        time.sleep(60)


def left() -> None:
    with within(60):
        os._exit(1)


def died(work: Callable[[], None]) -> int:
    """Id of a process that did the work, of which nobody looked when it died."""
    pid = os.fork()
    if pid == 0:
        work()
    os.waitpid(pid, 0)
    time.sleep(0.5)
    return pid


@pytest.mark.usefixtures("shared")
def test_the_watchdogs_exit_is_reported_as_a_model_that_hung(capfd: pytest.CaptureFixture[str]) -> None:
    assert f"{HUNG} of 0.1 s" in error_of("exitcode 1", died(hung))
    assert "in hung" in capfd.readouterr().err


@pytest.mark.usefixtures("shared")
def test_a_model_that_calls_exit_1_is_not_reported_as_one_that_hung() -> None:
    pid = died(left)

    assert HUNG not in error_of("exitcode 1", pid)
    assert "ended its process with exit code 1" in error_of("exitcode 1", pid)


def test_a_limit_that_passed_since_does_not_make_an_exit_a_hang(shared: Deadlines) -> None:
    shared.begin(0)

    assert HUNG not in error_of("exitcode 1")


def test_a_process_that_is_not_in_a_model_did_not_hang_there(shared: Deadlines) -> None:
    shared.begin(0)
    shared.end()

    assert HUNG not in error_of("exitcode 1")


@pytest.mark.parametrize("how", ["exitcode 11", "exitcode 137", "exitcode 3", "signal 9 (SIGKILL)"])
def test_another_death_is_not_reported_as_a_hang(shared: Deadlines, how: str) -> None:
    shared.begin(0)

    assert HUNG not in error_of(how)
