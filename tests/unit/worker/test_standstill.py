"""A process that hangs is ended by its parent, and no other."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from scorebeat.worker.lifecycle import standstill
from scorebeat.worker.lifecycle.standstill import Watch
from tests.support.fixtures import wait_for

pytestmark = pytest.mark.wide

BUSY = "while True: pass"
IDLE = "import time; time.sleep(3600)"
WAITING = "import ctypes; libc = ctypes.CDLL(None); libc.vfork() or libc.pause()"
"""Its child has its memory and ends no more: until then the kernel lets it do nothing, state D."""
PATIENCE = 2.0


@pytest.fixture
def process(request: pytest.FixtureRequest) -> Iterator["subprocess.Popen[bytes]"]:
    made = subprocess.Popen([sys.executable, "-c", request.param], start_new_session=True)
    yield made
    subprocess.run(["pkill", "-KILL", "-s", str(made.pid)], check=False)  # noqa: S607 -- of its own session
    made.wait()


def look_for(seconds: float, watch: Watch) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        watch.look(time.monotonic())
        time.sleep(0.2)


@pytest.mark.parametrize("process", [BUSY, IDLE], indirect=True)
def test_a_process_that_is_stopped_is_killed_and_the_reason_is_known(process: "subprocess.Popen[bytes]") -> None:
    watch = Watch(lambda: [process.pid], PATIENCE)
    process.send_signal(signal.SIGSTOP)

    def looked() -> bool:
        watch.look(time.monotonic())
        return process.poll() is not None

    wait_for(looked, every=0.2)
    assert process.returncode == -signal.SIGKILL
    assert "stopped by a signal" in standstill.reason(process.pid)


@pytest.mark.parametrize("process", [WAITING], indirect=True)
def test_a_process_in_a_wait_that_nothing_interrupts_is_killed(process: "subprocess.Popen[bytes]") -> None:
    watch = Watch(lambda: [process.pid], PATIENCE)

    def looked() -> bool:
        watch.look(time.monotonic())
        return process.poll() is not None

    wait_for(looked, every=0.2)
    assert "waiting for a device" in standstill.reason(process.pid)


@pytest.mark.parametrize("process", [BUSY, IDLE], indirect=True)
def test_a_process_that_works_or_waits_for_work_is_left_alone(process: "subprocess.Popen[bytes]") -> None:
    look_for(3 * PATIENCE, Watch(lambda: [process.pid], PATIENCE))

    assert process.poll() is None


@pytest.mark.parametrize("process", [IDLE], indirect=True)
def test_a_parent_that_stood_still_itself_begins_to_count_anew(process: "subprocess.Popen[bytes]") -> None:
    watch = Watch(lambda: [process.pid], PATIENCE)
    process.send_signal(signal.SIGSTOP)
    look_for(1, watch)
    time.sleep(6)

    watch.look(time.monotonic())

    assert standstill.reason(process.pid) == ""
    process.send_signal(signal.SIGCONT)
