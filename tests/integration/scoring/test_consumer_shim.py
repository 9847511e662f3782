"""The broker dies under a running task: workers live, thanks to a shim that goes when Celery needs it no more.

The worker has a free process: a worker that is wholly busy does not read from the broker, and does not die.
"""

from collections.abc import Iterator

import celery
import pytest

from scorebeat.core.states import RunState
from tests.support.fixtures import kill_group, wait_for
from tests.support.system import GATED, System, assert_scored_once, own_system

pytestmark = pytest.mark.wide

CELERYS_OWN = """
from scorebeat.worker.celery import app

app.conf.worker_consumer = "celery.worker.consumer:Consumer"
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system")) as made:
        yield made


@pytest.mark.slow
def test_workers_survive_three_deaths_of_the_broker_under_a_task(system: System) -> None:
    system.programs.control()
    system.programs.worker("cpu", processes=2)
    job = system.job("broker_dies", batch_rows=200, where=GATED)
    with system.closed_gate():
        run = system.enqueue(job)
        system.at_the_gate()
        for _ in range(3):
            _kill_broker(system)

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert [attempt for _, attempt, _ in system.batches(run)] == [1]
    assert all(process.poll() is None for process, _ in system.programs.started)
    assert_scored_once(system, job)
    for process, _ in system.programs.started:
        kill_group(process)


def test_without_the_shim_the_worker_dies(system: System) -> None:
    """When this fails, Celery has mended it: remove the shim's first method and this file."""
    (system.programs.folder / "celerys_own.py").write_text(CELERYS_OWN)
    system.programs.worker("control", "plan", name="control")
    celery_worker = ("celery", "-A", "celerys_own", "worker", "-Q", "bare", "-c", "2")
    worker = system.programs.start(*celery_worker, PYTHONPATH=str(system.programs.folder))
    system.programs.beat()
    job = system.job("without_shim", queue="bare", batch_rows=200, where=GATED)
    with system.closed_gate():
        system.enqueue(job)
        system.at_the_gate()
        system.servers.restart("broker", "SIGKILL")
        wait_for(lambda: "Unrecoverable error: AttributeError" in system.programs.log(worker))

    assert worker.wait(20) != 0  # it ends when its batch is done


def test_the_shim_is_looked_at_again_for_each_release_of_celery() -> None:
    assert celery.__version__ == "5.7.0"


def _kill_broker(system: System) -> None:
    """Kill it, start it again, and wait until both workers reply through it."""
    system.servers.restart("broker", "SIGKILL")
    wait_for(lambda: len(_replies(system)) == 2)


def _replies(system: System) -> list[object]:
    with system.p.app.connection_for_write() as fresh:  # the pooled one is to the broker that died
        return list(system.p.app.control.ping(timeout=0.5, connection=fresh))
