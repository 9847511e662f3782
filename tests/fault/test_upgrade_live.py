"""Workers of one version score a run while the migrations of the next one are done, even with a long reader about."""

import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
from sqlalchemy import create_engine, make_url, text

from scorebeat.core.states import RunState
from scorebeat.db.schema import upgrade
from tests.support.fixtures import wait_for
from tests.support.later import Later, later
from tests.support.system import SLOW, System, assert_scored_once, own_system

pytestmark = pytest.mark.wide

__all__ = ["later"]

NEXT_VERSION = (
    'op.execute("ALTER TABLE scorebeat.batches ADD COLUMN cost bigint")',
    "op.execute(\"ALTER TABLE scorebeat.runs ADD COLUMN note text NOT NULL DEFAULT 'none'\")",
    'op.execute("CREATE TABLE scorebeat.costs (run_id bigint PRIMARY KEY REFERENCES scorebeat.runs)")',
)
LONGEST_STALL = 3.0
"""Seconds; a lock that is waited for keeps commits waiting half a second, and the rest is a busy machine's."""


@pytest.fixture
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system")) as made:
        made.programs.control()
        made.programs.worker("cpu", processes=2)
        made.until_served("cpu", "control")
        yield made


def migrating(system: System) -> tuple[threading.Thread, list[str]]:
    """Migrate as the command does, beside the test; the lines that it prints."""
    lines: list[str] = []

    def work() -> None:
        with upgrade.turn(system.engine, lines.append) as connection:
            upgrade.upgrade(connection, lines.append)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, lines


def committed(system: System, run: int) -> int:
    ((count,),) = system.query("SELECT sum(rows_scored) FROM scorebeat.batches WHERE run_id = :id", id=run)
    return int(count or 0)


def test_a_run_goes_on_over_the_next_versions_migrations_and_commits_hardly_wait(system: System, later: Later) -> None:
    job = system.job("upgraded", rows=4000, batch_rows=40, where=SLOW)
    later.add(*NEXT_VERSION)
    later.add('create_index("batches_by_number", "batches", ["number"])')
    started = [process.pid for process, _ in system.programs.started]
    run = system.enqueue(job)
    wait_for(lambda: committed(system, run))
    url = make_url(str(system.settings.database_url)).set(drivername="postgresql+psycopg2")
    reader = create_engine(url, connect_args={"application_name": "a long report"})
    with later.installed():
        with reader.connect() as reading:
            reading.execute(text("SELECT count(*) FROM scorebeat.batches"))
            thread, lines = migrating(system)
            wait_for(lambda: len(lines) >= 3)
            before = committed(system, run)
            wait_for(lambda: committed(system, run) > before)
        ended = time.monotonic()
        thread.join(60)

    assert not thread.is_alive()
    assert time.monotonic() - ended < 30
    assert "a long report (PID " in lines[0]
    assert system.until_finished(run, 60) is RunState.SUCCEEDED
    assert_scored_once(system, job)
    assert [(p.pid, p.poll()) for p, _ in system.programs.started] == [(pid, None) for pid in started]
    assert system.query("SELECT max(attempt) FROM scorebeat.batches WHERE run_id = :id", id=run) == [(1,)]
    assert longest_stall(system, run) < LONGEST_STALL
    assert system.query("SELECT count(*), count(cost) FROM scorebeat.batches WHERE run_id = :id", id=run) == [(100, 0)]


def longest_stall(system: System, run: int) -> float:
    """Seconds between two commits of the run that followed each other."""
    statement = "SELECT extract(epoch FROM finished_at)::float FROM scorebeat.batches WHERE run_id = :id ORDER BY 1"
    times = [at for (at,) in system.query(statement, id=run)]
    return float(max(later - earlier for earlier, later in pairwise(times)))
