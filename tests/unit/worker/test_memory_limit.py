"""A process that the kernel killed for its container's memory limit is known from one that somebody killed."""

from pathlib import Path

import pytest
from billiard.exceptions import WorkerLostError

from scorebeat.worker.lifecycle.devices import memory_limit
from scorebeat.worker.lifecycle.signals import cause_of_death

KILLED = WorkerLostError("Worker exited prematurely: signal 9 (SIGKILL) Job: 6.")
CRASHED = WorkerLostError("Worker exited prematurely: signal 11 (SIGSEGV) Job: 6.")
FILES = {
    "2": ("memory.max", "memory.events", "low 0\nhigh 0\nmax 31\noom 2\noom_kill {}\n"),
    "1": ("memory/memory.limit_in_bytes", "memory/memory.oom_control", "under_oom 0\noom_kill {}\n"),
}


class Container:
    """The files of a control group, by its version."""

    def __init__(self, folder: Path, version: str) -> None:
        limit, counts, self._text = FILES[version]
        self._limit, self._counts = folder / limit, folder / counts
        self._limit.parent.mkdir(exist_ok=True)
        self.has(400 * 2**20)
        self.killed(7)

    def has(self, limit: int | str) -> None:
        self._limit.write_text(f"{limit}\n", "ascii")

    def killed(self, processes: int) -> None:
        self._counts.write_text(self._text.format(processes), "ascii")


@pytest.fixture(params=FILES)
def container(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Container:
    monkeypatch.setattr(memory_limit, "CGROUP", tmp_path)
    made = Container(tmp_path, request.param)
    memory_limit.begin()
    return made


def test_each_process_that_the_kernel_killed_is_explained_once(container: Container) -> None:
    assert cause_of_death(KILLED, None) == f"WorkerLostError: {KILLED}", "those before this worker are not its own"

    container.killed(9)
    causes = [cause_of_death(error, None) for error in (CRASHED, KILLED, KILLED, KILLED)]

    assert ["memory limit of 400 MiB" in cause for cause in causes] == [False, True, True, False]


@pytest.mark.parametrize("unlimited", ["max", 9223372036854771712])
def test_without_a_limit_nothing_is_blamed_on_it(container: Container, unlimited: int | str) -> None:
    container.has(unlimited)
    container.killed(9)

    assert memory_limit.reason() == memory_limit.too_little(64) == ""


def test_a_worker_with_more_processes_than_its_memory_holds_is_named(container: Container) -> None:
    container.has(400 * 2**20)

    assert memory_limit.too_little(3) == ""
    assert "4 processes have 400 MiB together" in memory_limit.too_little(4)
