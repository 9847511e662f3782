"""Every-run jobs: a worker dies in a commit to a table without a key, and a process dies while it builds the key."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import Popen

import pytest

from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from tests.support.fixtures import kill_group, wait_for
from tests.support.gates import Step, build_gates, has_backend, of_batch
from tests.support.system import System, assert_scored_once, children, own_system

pytestmark = pytest.mark.slow

BUILDS = (
    "SELECT pid FROM pg_stat_activity WHERE query LIKE '%build_key%' AND wait_event_type = 'Lock'"
    " AND application_name LIKE :name"
)
AT_THE_GATE = (
    f"SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND classid = {int(Step.BATCH_DONE)}"
)
HAS_KEY = (
    "SELECT i.indisprimary FROM pg_index i JOIN scorebeat.prediction_sets s"
    " ON i.indrelid = to_regclass('predictions.' || s.table_name)"
    " JOIN scorebeat.runs r ON r.prediction_set_id = s.id WHERE r.id = :run"
)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system")) as made:
        build_gates(made)
        made.programs.control()
        made.until_served("control", "plan")
        yield made


def assert_shown_whole(system: System, job: Job, run: int) -> None:
    """Readers see the generation of the run, which has its key, and each row of the source once."""
    assert system.query(HAS_KEY, run=run) == [(True,)]
    assert_scored_once(system, job)
    (seen,) = system.query(f"SELECT count(*), count(DISTINCT id) FROM predictions.{job.name}")
    assert seen == (200, 200)


@contextmanager
def cpu_worker(system: System) -> Iterator["Popen[bytes]"]:
    """The only worker that scores."""
    worker = system.programs.worker("cpu", name="scoring")
    try:
        yield worker
    finally:
        kill_group(worker)
        system.execute("DELETE FROM scorebeat.workers WHERE name LIKE 'scoring%'")


@pytest.mark.parametrize("when", ["before it ends", "after it ended"])
def test_a_worker_that_is_killed_in_a_commit_without_a_key_doubles_and_loses_no_row(system: System, when: str) -> None:
    job = system.job(f"killed_{when.partition(' ')[0]}", rescore="every-run")
    with of_batch(system, Step.BATCH_DONE, job).closed(), cpu_worker(system) as worker:
        run = system.enqueue(job)
        backend = wait_for(lambda: system.query(AT_THE_GATE))[0][0]
        assert system.query(HAS_KEY, run=run) == []
        for child in children(worker.pid):
            os.kill(child, signal.SIGKILL)
        if when == "before it ends":
            system.query("SELECT pg_terminate_backend(:pid)", pid=backend)
            wait_for(lambda: not has_backend(system, backend))

    with cpu_worker(system):
        assert system.until_finished(run) is RunState.SUCCEEDED
    assert_shown_whole(system, job, run)


@contextmanager
def somebody_writes(system: System, run: int) -> Iterator[None]:
    """Who builds the key waits, until the block is left, for a session that has written to the table."""
    ((table,),) = system.query(
        "SELECT s.table_name FROM scorebeat.prediction_sets s JOIN scorebeat.runs r ON r.prediction_set_id = s.id"
        " WHERE r.id = :run",
        run=run,
    )
    with system.engine.connect() as connection:
        connection.exec_driver_sql(f"LOCK TABLE predictions.{table} IN ROW EXCLUSIVE MODE")
        yield
        connection.rollback()


def builder(system: System, name: str) -> int:
    """The backend of a worker with this name that waits with the key."""
    return int(wait_for(lambda: system.query(BUILDS, name=f"scorebeat {name}%"))[0][0])


def test_a_run_is_shown_whole_though_all_who_build_its_key_are_killed(system: System) -> None:
    job = system.job("killed_with_the_key", rescore="every-run")
    run = system.enqueue(job)
    system.until_planned(run)
    control, _ = system.programs.started[0]

    with somebody_writes(system, run):
        with cpu_worker(system):
            builder(system, "scoring")
        builder(system, "control")  # it was sent the key since
        kill_group(control)
        assert system.query("SELECT state FROM scorebeat.runs WHERE id = :run", run=run) == [("running",)]
        assert system.query(f"SELECT count(*) FROM predictions.{job.name}") == [(0,)]
    system.programs.worker("control", "plan", name="control")

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert_shown_whole(system, job, run)
