"""PostgreSQL that is restarted, or crashes, under running workers, beat and control."""

from collections.abc import Iterator
from subprocess import Popen

import pytest

from scorebeat.core.states import RunState
from tests.support.fixtures import wait_for
from tests.support.system import SLOW, System, assert_scored_once, own_system

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system")) as made:
        yield made


@pytest.fixture(scope="module")
def beat(system: System) -> "Popen[bytes]":
    system.programs.worker("control", "plan", name="control")
    system.programs.worker("cpu", processes=2)
    return system.programs.beat()


@pytest.mark.usefixtures("beat")
def test_a_run_outlives_restarts_and_a_crash_of_the_database(system: System) -> None:
    job = system.job("restarted", rows=2_000, batch_rows=20, where=SLOW)
    run = system.enqueue(job)

    for batches, how in ((10, "SIGINT"), (40, "SIGQUIT"), (70, "SIGINT")):
        _until_committed(system, run, batches)
        system.servers.restart("database", how)

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert all(process.poll() is None for process, _ in system.programs.started)
    assert_scored_once(system, job)


def _until_committed(system: System, run: int, batches: int) -> None:
    statement = "SELECT 1 FROM scorebeat.batches WHERE run_id = :id AND state = 'committed' OFFSET :before"
    wait_for(lambda: system.query(statement, id=run, before=batches - 1))


@pytest.mark.wide
def test_beat_goes_on_when_the_database_was_away(system: System, beat: "Popen[bytes]") -> None:
    system.servers.stop("database")
    wait_for(lambda: "beat.database_away" in system.programs.log(beat))
    second = system.programs.beat()  # started without a database
    wait_for(lambda: "beat.database_away" in system.programs.log(second))
    system.servers.start("database")
    job = system.job("after_outage", schedule="every 1 second")

    run = wait_for(lambda: system.query("SELECT id FROM scorebeat.runs WHERE job = :job", job=job.name))[0][0]
    wait_for(lambda: "job after_outage" in system.programs.log(beat))
    wait_for(lambda: "job after_outage" in system.programs.log(second))
    assert beat.poll() is None
    assert second.poll() is None
    assert system.until_finished(run) is RunState.SUCCEEDED
    assert_scored_once(system, job)
