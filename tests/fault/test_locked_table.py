"""A table of one job that somebody locks: its own batches wait, other jobs go on, and people see which lock it is."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import text

from scorebeat.core.states import RunState
from scorebeat.db.reports import status
from tests.fault.test_read_only_database import scorebeat
from tests.support.fixtures import wait_for
from tests.support.system import SLOW, System, assert_scored_once, own_system

pytestmark = pytest.mark.slow

LOCKED_FOR = 25.0
"""Seconds; a worker, a planner or control that waited for the lock would be seen to hang for so long."""
BOUND = 10.0
"""Seconds from the request to the end of a small run of another job, on a busy machine."""


EACH_SECOND = """UPDATE scorebeat.jobs SET spec = jsonb_set(spec, '{schedule}', '"every 1 second"') WHERE name = :job"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system")) as made:
        made.programs.control()
        made.programs.worker("cpu", processes=2)
        made.until_served("cpu", "control", "plan")
        warm = made.job("warm", rows=8)
        assert made.until_finished(made.enqueue(warm), within=120) is RunState.SUCCEEDED
        yield made


def test_a_locked_table_keeps_no_other_job_waiting_and_its_own_run_ends_well(system: System) -> None:
    locked = system.job("locked", rows=1_200, batch_rows=30, where=SLOW)
    due = system.job("locked_and_due", rows=40)
    system.job("free", rows=40, schedule="every 2 seconds", rescore="every-run")
    run = system.enqueue(locked)
    wait_for(lambda: any(state == "committed" for state, *_ in system.batches(run)))
    took: list[float] = []

    with lock(system, "locked", "locked_and_due"):
        system.execute(EACH_SECOND, job=due.name)  # `apply` would look at its table
        until = time.monotonic() + LOCKED_FOR
        while time.monotonic() < until:
            began = time.monotonic()
            last = newest(system, "free")
            wait_for(lambda: newest(system, "free") > last)  # noqa: B023 -- called at once
            took.append(time.monotonic() - began)
        outputs = scorebeat(system, "runs"), scorebeat(system, "show", str(run))
        waiting = {job for job, state, reason in runs(system) if reason and state in ("planning", "running")}

    assert max(took) < BOUND, took
    assert waiting == {"locked", "locked_and_due"}
    assert all("waits for a lock on locked, which process" in one for one in outputs), outputs
    assert system.until_finished(run, within=60) is RunState.SUCCEEDED
    assert {state for state, *_ in system.batches(run)} == {"committed"}
    assert_scored_once(system, locked)
    held = system.query("SELECT min(id) FROM scorebeat.runs WHERE job = 'locked_and_due'")[0][0]
    assert system.until_finished(held, within=60) is RunState.SUCCEEDED
    assert_scored_once(system, due)


def runs(system: System) -> list[tuple[Any, ...]]:
    """Job, state and reason of the newest runs, as `scorebeat runs` and Flower read them."""
    with system.engine.connect() as connection:
        return [(line.job, line.state.value, line.reason) for line in status.newest(connection, 50)]


def newest(system: System, job: str) -> int:
    """The newest run of the job that succeeded."""
    statement = "SELECT coalesce(max(id), 0) FROM scorebeat.runs WHERE job = :job AND state = 'succeeded'"
    return int(system.query(statement, job=job)[0][0])


@contextmanager
def lock(system: System, *tables: str) -> Iterator[None]:
    """ACCESS EXCLUSIVE on the tables, by a session of somebody else, until the block is left."""
    with system.engine.connect() as connection:
        # waits in the queue of the lock, as ALTER TABLE does, for as long as a fetch takes
        connection.execute(text(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE"))
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        yield
        connection.rollback()
