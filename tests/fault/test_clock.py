"""Hosts whose clock jumps under running work: the database's clock alone decides how long a claim lasts."""

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from subprocess import Popen

import pytest

from scorebeat.core.states import RunState
from tests.support.fixtures import kill_group, wait_for
from tests.support.system import GATED, System, assert_scored_once, own_system

pytestmark = pytest.mark.wide

HOURS = (2, -2)
"""Longer than any claim, lease or time limit."""


class Host:
    """Programs started with its environment have its clock, which may jump while they run."""

    def __init__(self, folder: Path, preload: Path) -> None:
        self._file = folder / "clock"
        self.environment = {
            "LD_PRELOAD": str(preload),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # a real clock that is set leaves the monotonic one alone
        }
        self.jump(0)

    def jump(self, hours: int) -> None:
        """From now on the clock is so far ahead of the real one."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{hours * 3600:+d}")
        new.replace(self._file)

    def hours_ahead(self) -> int:
        """As a program sees it that is started there now."""
        program = "import time; print(time.time())"
        result = subprocess.run(
            [sys.executable, "-c", program], env=self.environment, capture_output=True, text=True, check=True
        )
        return round((float(result.stdout) - datetime.now().timestamp()) / 3600)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system")) as made:
        yield made


@pytest.fixture(scope="module")
def module_host(system: System) -> Host:
    """It has control and planning; beat runs elsewhere, where the clock is right."""
    found = importlib.util.find_spec("libfaketime")
    if found is None or found.origin is None:
        pytest.skip("the package libfaketime is not installed, and nothing else shifts a program's clock")
    preload = Path(found.origin).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
    made = Host(system.programs.folder, preload)
    made.jump(HOURS[0])
    if made.hours_ahead() != HOURS[0]:
        pytest.skip("libfaketime does not shift clocks on this kind of machine")
    made.jump(0)
    _worker(system, made, "control", "plan")
    system.programs.beat()
    return made


@pytest.fixture
def host(module_host: Host) -> Iterator[Host]:
    yield module_host
    module_host.jump(0)


@pytest.fixture
def worker(system: System, host: Host) -> Iterator["Popen[bytes]"]:
    started = _worker(system, host, "cpu")
    yield started
    kill_group(started)


def _worker(system: System, host: Host, *queues: str) -> "Popen[bytes]":
    return system.programs.worker(*queues, processes=1, name="worker", **host.environment)


@pytest.mark.parametrize("hours", HOURS)
def test_a_host_whose_clock_jumps_keeps_its_claims_and_frees_only_those_of_the_dead(
    system: System, host: Host, worker: "Popen[bytes]", hours: int
) -> None:
    job = system.job(f"jumped_{hours + 24}", batch_rows=100, where=GATED)
    victim = _worker(system, host, "cpu")
    with system.closed_gate():
        run = system.enqueue(job)
        wait_for(lambda: _holders(system, run) == {1: {worker.pid, victim.pid}})
        system.at_the_gate(2)  # a connection that is being opened has a time limit by the host's own clock
        host.jump(hours)
        system.until_renewed(run)
        kill_group(victim)
        third = system.programs.worker("cpu")
        wait_for(lambda: _holders(system, run) == {1: {worker.pid}, 2: {third.pid}})

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert _holders(system, run) == {1: {worker.pid}, 2: {third.pid}}
    assert _hours_ahead(system, worker, run) == hours % 24
    assert _times_are_the_databases(system, run)
    kill_group(third)
    assert_scored_once(system, job)


def _holders(system: System, run: int) -> dict[int, set[int]]:
    """Process ids of the workers that have, or last had, a batch; by the batch's attempts."""
    found: dict[int, set[int]] = {}
    for state, attempt, by in system.batches(run):
        if state in ("claimed", "committed"):
            found.setdefault(attempt, set()).add(int(str(by).rpartition("/")[2]))
    return found


def _hours_ahead(system: System, worker: "Popen[bytes]", run: int) -> int:
    """How far ahead the worker's own clock was when it committed, by the stamp of its log, modulo a day."""
    (stamp,) = re.findall(rf"^(\d\d:\d\d:\d\d) .*batch\.committed run={run}\b", system.programs.log(worker), re.M)
    logged = datetime.strptime(stamp, "%H:%M:%S")
    now = datetime.now()
    return round((logged - datetime(1900, 1, 1, now.hour, now.minute)).total_seconds() / 3600) % 24


def _times_are_the_databases(system: System, run: int) -> bool:
    """Every timestamp of the run in the ledger lies between its beginning and now, by one clock."""
    statement = (
        "SELECT r.created_at <= b.claimed_at AND b.claimed_at <= b.finished_at AND b.finished_at <= now()"
        " AND r.finished_at <= now() FROM scorebeat.runs r JOIN scorebeat.batches b ON b.run_id = r.id WHERE r.id = :id"
    )
    return all(right for (right,) in system.query(statement, id=run))
