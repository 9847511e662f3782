"""A worker that reaches the broker and not the ledger leaves the queue to those who reach both."""

import os
import signal
from collections.abc import Iterator
from subprocess import Popen

import pytest
from sqlalchemy import make_url

from scorebeat.core.states import RunState
from tests.support.fixtures import kill_group, wait_for
from tests.support.system import SLOW, System, assert_scored_once, own_system

pytestmark = pytest.mark.wide

ROLE = "once_trusted"
RECEIVED = "Task scorebeat.score["


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system")) as made:
        made.programs.control()
        made.execute(f"CREATE ROLE {ROLE} LOGIN SUPERUSER PASSWORD 'once'")
        yield made


@pytest.fixture
def blind(system: System) -> Iterator["Popen[bytes]"]:
    """A worker that served, and whose role the server then refuses, as after a changed password."""
    url = make_url(str(system.settings.database_url)).set(username=ROLE, password="once")
    worker = system.programs.worker("cpu", name="blind", SCOREBEAT_DATABASE_URL=url.render_as_string(False))
    wait_for(lambda: system.query("SELECT 1 FROM scorebeat.workers WHERE name LIKE :end", end=f"%/{worker.pid}"))
    system.execute(f"ALTER ROLE {ROLE} NOLOGIN")
    system.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'")
    yield worker
    kill_group(worker)


def test_a_worker_that_lost_the_ledger_holds_one_message_and_the_others_work(
    system: System, blind: "Popen[bytes]"
) -> None:
    job = system.job("half_blind", rows=600, batch_rows=20, where=SLOW)
    run = system.enqueue(job)
    wait_for(lambda: "heartbeat.database_away" in system.programs.log(blind))
    wait_for(lambda: " database.away" in system.programs.log(blind))  # it has a message, and cannot claim
    seeing = system.programs.worker("cpu", name="seeing")

    assert system.until_finished(run, within=120) is RunState.SUCCEEDED
    log = system.programs.log(blind)
    assert log.count(RECEIVED) <= 2, log
    assert log.count("database.away") == 1
    assert log.count("heartbeat.database_away") == 1
    assert "Traceback" not in log
    assert_scored_once(system, job)

    os.killpg(seeing.pid, signal.SIGKILL)
    system.execute(f"ALTER ROLE {ROLE} LOGIN")
    wait_for(lambda: "database.back" in system.programs.log(blind))
    again = system.job("sees_again", rows=40, batch_rows=20)
    run = system.enqueue(again)
    assert system.until_finished(run, within=120) is RunState.SUCCEEDED
    assert system.worker_of(run) == blind.pid
    assert_scored_once(system, again)
