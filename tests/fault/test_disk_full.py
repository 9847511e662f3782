"""PostgreSQL whose disk is full: of the predictions' table alone, and of everything."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.db.reports import status
from scorebeat.producer.control import control_round, plan
from scorebeat.producer.control.upkeep.settle import build_keys
from scorebeat.producer.requests.requeue import requeue
from tests.support.fixtures import wait_for
from tests.support.system import MODEL, SLOW, System, assert_scored_once, own_system

pytestmark = pytest.mark.slow


class Disk:
    """A small file system that a test fills to the last byte, and frees."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self) -> None:
        with self._ballast.open("ab", buffering=0) as ballast:
            for size in (1 << 20, 1 << 12):
                try:
                    while ballast.write(bytes(size)) == size:
                        pass
                except OSError:  # full
                    continue

    def free(self) -> None:
        self._ballast.unlink()


@contextmanager
def small_disk(path: Path, megabytes: int, cluster: Path) -> Iterator[Disk]:
    """Mounted at `path`, in memory, for the owner of the cluster. Skips the test where that is forbidden."""
    path.mkdir(parents=True)
    size = f"size={megabytes}m,mode=700"
    command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(path)]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no small file system can be mounted here, which takes root: {mounted.stderr.strip()}")
    try:
        _give(path, cluster)
        yield Disk(path)
    finally:
        command = ["umount", "--lazy", str(path)]
        subprocess.run(command, check=True)


def _give(path: Path, cluster: Path) -> None:
    """The servers may run as another user than the test."""
    owner = cluster.stat()
    os.chown(path, owner.st_uid, owner.st_gid)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The test is its control: nothing is tried again but by it."""
    with own_system(tmp_path_factory.mktemp("system")) as made:
        made.programs.worker("cpu")
        made.until_served("cpu")
        yield made


@pytest.fixture(scope="module")
def tablespace(system: System) -> Iterator[Disk]:
    """A disk of its own for predictions."""
    cluster = system.programs.folder / "data" / "postgres"
    with small_disk(system.programs.folder / "data" / "small", 8, cluster) as disk:
        folder = disk.path / "tablespace"
        folder.mkdir(mode=0o700)
        _give(folder, cluster)
        with system.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"CREATE TABLESPACE small LOCATION '{folder}'")
        yield disk
        system.servers.stop("database")


def _job_on_a_full_disk(system: System, disk: Disk, name: str) -> tuple[Job, int]:
    """A job whose predictions have no disk space; its run, with every batch tried once."""
    job = system.job(name)
    system.execute(f"ALTER TABLE predictions.{name}__{MODEL}_v1 SET TABLESPACE small")
    system.execute(f"ALTER INDEX predictions.{name}__{MODEL}_v1_pkey SET TABLESPACE small")
    disk.fill()
    run = system.enqueue(job)
    plan.plan(system.p, run)
    wait_for(lambda: _errors(system, run) == 4)
    return job, run


def _errors(system: System, run: int) -> int:
    """Batches whose last attempt failed for want of space."""
    statement = "SELECT count(*) FROM scorebeat.batches WHERE run_id = :id AND error LIKE '%No space left on device%'"
    return int(system.query(statement, id=run)[0][0])


def _moved_on(system: System, run: int, state: str) -> bool:
    """Whether all batches are in this state, and the run is closed; a round of control before, and one after."""
    control_round.run_once(system.p)
    if {found for found, _, _ in system.batches(run)} != {state}:
        return False
    control_round.run_once(system.p)
    return True


def test_a_batch_that_finds_the_disk_full_waits_and_is_tried_again(system: System, tablespace: Disk) -> None:
    job, run = _job_on_a_full_disk(system, tablespace, "full_for_a_while")

    statement = "SELECT state, attempts_left, next_attempt_at > claimed_at FROM scorebeat.batches WHERE run_id = :id"
    assert system.query(statement, id=run) == [("pending", system.settings.max_attempts - 1, True)] * 4
    tablespace.free()
    wait_for(lambda: _moved_on(system, run, "committed"))

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert [attempt for _, attempt, _ in system.batches(run)] == [2] * 4
    assert_scored_once(system, job)


@pytest.mark.wide
def test_batches_that_died_of_a_full_disk_are_requeued_when_there_is_space(system: System, tablespace: Disk) -> None:
    job, run = _job_on_a_full_disk(system, tablespace, "full_for_long")

    wait_for(lambda: _moved_on(system, run, "dead"))
    assert system.until_finished(run) is RunState.FAILED
    assert [attempt for _, attempt, _ in system.batches(run)] == [system.settings.max_attempts] * 4
    assert _errors(system, run) == 4
    tablespace.free()
    assert requeue(system.p, run, "test", error="No space left") == 4
    wait_for(lambda: _moved_on(system, run, "committed"))

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert_scored_once(system, job)


def test_a_run_that_finds_no_disk_for_its_snapshot_fails_and_leaves_nothing(system: System, tablespace: Disk) -> None:
    job = system.job("no_disk_for_rows", rows=4_000, snapshot=True)
    database = system.engine.url.database
    system.execute(f"ALTER DATABASE {database} SET default_tablespace = small")
    system.p.engine.dispose()
    tablespace.fill()
    run = system.enqueue(job)
    plan.plan(system.p, run)

    ((state, reason),) = system.query("SELECT state, reason FROM scorebeat.runs WHERE id = :id", id=run)
    assert state == "failed"
    assert "there is no disk for the rows of the query" in reason
    assert "MiB by PostgreSQL's estimate" in reason
    assert "`scorebeat enqueue no_disk_for_rows`" in reason
    assert system.query("SELECT FROM pg_class WHERE relnamespace = 'scorebeat_work'::regnamespace") == []
    tablespace.free()
    again = system.enqueue(job)
    plan.plan(system.p, again)
    system.execute(f"ALTER DATABASE {database} RESET default_tablespace")
    assert system.until_finished(again) is RunState.SUCCEEDED
    assert_scored_once(system, job)


def test_a_generation_whose_key_finds_no_disk_is_shown_when_there_is_space(system: System, tablespace: Disk) -> None:
    job = system.job("no_disk_for_its_key", rescore="every-run")
    run = system.enqueue(job)
    database = system.engine.url.database
    system.execute(f"ALTER DATABASE {database} SET default_tablespace = small")  # of the index, which is made last
    system.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'scorebeat worker%'"
    )
    tablespace.fill()
    plan.plan(system.p, run)
    statement = "SELECT key_error, key_retry_at > now() FROM scorebeat.runs WHERE id = :id AND key_error IS NOT NULL"
    ((error, is_later),) = wait_for(lambda: system.query(statement, id=run))

    assert ("No space left on device" in error, is_later) == (True, True)
    with system.engine.connect() as connection:
        line = status.get(connection, run)
    assert line.state is RunState.RUNNING
    assert "has to be built, which is tried again soon" in str(line.reason)
    assert "No space left on device" in str(line.reason)
    assert build_keys(system.p) == 0  # not before the pause is over
    tablespace.free()
    system.execute(f"ALTER DATABASE {database} RESET default_tablespace")
    system.execute("UPDATE scorebeat.runs SET key_retry_at = now() WHERE id = :id", id=run)
    assert build_keys(system.p) == 1

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert_scored_once(system, job)


@pytest.mark.wide
def test_a_run_outlives_a_disk_on_which_the_database_cannot_even_write_its_log(tmp_path: Path) -> None:
    with own_system(tmp_path) as system, _log_on_a_small_disk(system) as disk:
        system.programs.control()
        system.programs.worker("cpu", processes=2)
        job = system.job("crashed_disk", rows=1_000, batch_rows=20, where=SLOW)
        run = system.enqueue(job)
        committed = "SELECT 1 FROM scorebeat.batches WHERE run_id = :id AND state = 'committed' OFFSET 9"
        wait_for(lambda: system.query(committed, id=run))

        disk.fill()
        wait_for(lambda: _crashed(system))
        disk.free()
        system.servers.restart("database", "SIGQUIT")

        assert system.until_finished(run) is RunState.SUCCEEDED
        assert all(process.poll() is None for process, _ in system.programs.started)
        assert_scored_once(system, job)


@contextmanager
def _log_on_a_small_disk(system: System) -> Iterator[Disk]:
    """PostgreSQL's write-ahead log has a disk of its own."""
    cluster = system.programs.folder / "data" / "postgres"
    log, target = cluster / "pg_wal", system.programs.folder / "small"
    with small_disk(target, 96, cluster) as disk:
        system.servers.stop("database")
        shutil.copytree(log, target / "pg_wal")
        for path in (target / "pg_wal", *(target / "pg_wal").rglob("*")):
            _give(path, cluster)
        shutil.rmtree(log)
        log.symlink_to(target / "pg_wal")
        system.servers.start("database")
        yield disk
        system.servers.stop("database")


def _crashed(system: System) -> bool:
    """Has the server begin another file of its log, for which there is no space; returns whether that ended it."""
    try:
        system.execute("SELECT pg_switch_wal(), pg_logical_emit_message(true, 'test', 'x')")
    except DBAPIError as error:
        return getattr(error.orig, "pgcode", None) is None  # the connection ended, or none can be made
    return False
