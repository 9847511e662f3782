"""`--burst`: a worker that stops by itself, when and only when nothing is left to do on its queues."""

from collections.abc import Iterator
from subprocess import Popen

import pytest

from scorebeat.core.states import RunState
from scorebeat.db.processes import workers
from scorebeat.ops.local.worker_commands import device_worker
from scorebeat.worker.lifecycle import burst
from scorebeat.worker.lifecycle.burst import Watch
from tests.support.fixtures import kill_group, wait_for
from tests.support.system import GATED, System, assert_scored_once, own_system

pytestmark = pytest.mark.wide

AT_ONCE = 20.0
"""Seconds for a start, a look and an end."""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system")) as made:
        yield made


@pytest.fixture(scope="module")
def control(system: System) -> None:
    system.programs.control()
    system.until_served("control", "plan")


def start(system: System) -> "Popen[bytes]":
    """The worker that the command becomes."""
    _, _, *module = device_worker("cpu", ["cpu"], 1, burst=True)
    return system.programs.start(*module)


def test_with_nothing_to_do_the_command_stops_at_once(system: System) -> None:
    options = ("--device", "cpu", "--processes", "1", "--burst")
    worker = system.programs.start("scorebeat.ops.cli", "worker", *options)

    assert worker.wait(AT_ONCE) == 0
    assert 'burst.done queues=["cpu"]' in system.programs.log(worker)
    assert system.query("SELECT 1 FROM scorebeat.workers WHERE name LIKE 'cpu-%'") == []


@pytest.mark.usefixtures("control")
def test_it_scores_what_there_is_and_stops(system: System) -> None:
    job = system.job("bursting")
    run = system.enqueue(job)
    worker = start(system)

    assert worker.wait(60) == 0

    assert system.until_finished(run, within=0) is RunState.SUCCEEDED
    assert {state for state, *_ in system.batches(run)} == {"committed"}
    assert_scored_once(system, job)


@pytest.mark.usefixtures("control")
def test_it_waits_for_a_retry_that_is_not_yet_due(system: System) -> None:
    job = system.job("retried", batch_rows=200, where=GATED)
    with system.closed_gate():
        run = system.enqueue(job)
        wait_for(lambda: system.batches(run))
        _put_off(system, run, "1 hour")
    worker = start(system)
    wait_for(lambda: " ready." in system.programs.log(worker))
    due = _put_off(system, run, "5 seconds")

    assert worker.wait(60) == 0

    assert system.until_finished(run, within=0) is RunState.SUCCEEDED
    statement = "SELECT claimed_at >= :due FROM scorebeat.batches WHERE run_id = :id"
    assert system.query(statement, id=run, due=due) == [(True,)]


def _put_off(system: System, run: int, pause: str) -> object:
    """No batch of the run may be tried before a time, which is returned."""
    put_off = "UPDATE scorebeat.batches SET next_attempt_at = now() + CAST(:pause AS interval) WHERE run_id = :id"
    system.execute(put_off, id=run, pause=pause)
    return system.query("SELECT next_attempt_at FROM scorebeat.batches WHERE run_id = :id", id=run)[0][0]


@pytest.mark.usefixtures("control")
def test_it_waits_for_a_batch_that_another_worker_may_not_finish(system: System) -> None:
    job = system.job("shared", batch_rows=200, where=GATED)
    with system.closed_gate():
        run = system.enqueue(job)
        other = system.programs.worker("cpu")
        system.at_the_gate()
        worker = start(system)
        wait_for(lambda: " ready." in system.programs.log(worker))
        kill_group(other)
        wait_for(lambda: system.batches(run)[0][:2] == ("claimed", 2))

    assert worker.wait(60) == 0
    assert system.until_finished(run, within=0) is RunState.SUCCEEDED
    assert_scored_once(system, job)


@pytest.mark.usefixtures("control")
def test_a_run_on_another_queue_does_not_hold_it(system: System) -> None:
    job = system.job("elsewhere", queue="gpu")
    run = system.enqueue(job)
    wait_for(lambda: system.batches(run))

    assert start(system).wait(AT_ONCE) == 0

    assert {state for state, *_ in system.batches(run)} == {"pending"}


def test_without_a_control_worker_it_reports_that_and_ends(
    system: System, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    system.enqueue(system.job("alone", queue="lonely"))
    monkeypatch.setattr(workers, "served", lambda _: {"lonely"})
    seconds = iter([0.0, 0.0, burst.PATIENCE - 1, burst.PATIENCE + 1])
    watch = Watch(["lonely"], lambda: next(seconds))
    caplog.clear()

    with caplog.at_level("INFO", "scorebeat"):
        codes = [watch.look(system.engine) for _ in range(3)]

    assert codes == [None, None, burst.GIVEN_UP]
    assert [record.getMessage() for record in caplog.records] == ["burst.waiting", "burst.given_up"]
