"""The heartbeat: what a living worker has in progress stays its own for as long as it takes."""

from collections.abc import Iterator
from subprocess import Popen

import pytest

from scorebeat.core.states import RunState
from tests.support.fixtures import kill_group, wait_for
from tests.support.system import AT_THE_GATE, GATED, System, assert_scored_once, own_system

pytestmark = pytest.mark.slow

IN_A_PLAN = f"""CASE WHEN current_setting('application_name') LIKE 'scorebeat planner%'
    THEN {AT_THE_GATE} ELSE true END"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system")) as made:
        made.programs.worker("control", name="control")
        made.programs.beat()
        made.programs.worker("cpu")
        yield made


@pytest.fixture(scope="module")
def planner(system: System) -> "Popen[bytes]":
    """Its second process would take a plan that the first has lost."""
    return system.programs.worker("plan", name="planner", processes=2)


@pytest.mark.usefixtures("planner")
def test_a_batch_that_takes_longer_than_a_claim_stays_with_its_worker(system: System) -> None:
    job = system.job("slow_batch", batch_rows=200, where=GATED)
    with system.closed_gate():
        run = system.enqueue(job)
        system.at_the_gate()
        system.until_older_than_a_claim(run)
        assert system.batches(run)[0][:2] == ("claimed", 1)

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert system.batches(run)[0][:2] == ("committed", 1)
    assert_scored_once(system, job)


@pytest.mark.usefixtures("planner")
def test_a_plan_that_takes_longer_than_its_lease_stays_with_its_planner(system: System) -> None:
    job = system.job("slow_plan", where=IN_A_PLAN)
    older = "SELECT 1 FROM scorebeat.runs WHERE id = :id AND created_at + CAST(:ttl AS interval) * 2 < now()"
    with system.closed_gate():
        run = system.enqueue(job)
        wait_for(lambda: system.query(older, id=run, ttl=system.settings.claim_ttl))
        assert system.query("SELECT state, plan_attempt FROM scorebeat.runs WHERE id = :id", id=run) == [
            ("planning", 1)
        ]

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert system.query("SELECT plan_attempt, reason FROM scorebeat.runs WHERE id = :id", id=run) == [(1, None)]
    assert_scored_once(system, job)


def test_a_plan_whose_planner_was_killed_is_begun_again(system: System, planner: "Popen[bytes]") -> None:
    job = system.job("killed_plan", where=IN_A_PLAN)
    with system.closed_gate():
        run = system.enqueue(job)
        wait_for(lambda: system.query("SELECT 1 FROM scorebeat.runs WHERE id = :id AND plan_attempt = 1", id=run))
        kill_group(planner)
        system.programs.worker("plan", name="planner")

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert system.query("SELECT plan_attempt FROM scorebeat.runs WHERE id = :id", id=run) == [(2,)]
    assert_scored_once(system, job)


def test_the_workers_table_shows_a_worker_until_it_has_stopped(system: System) -> None:
    worker = system.programs.worker("elsewhere", processes=2, name="shown")
    system.until_served("elsewhere")
    listed = "SELECT queues, processes FROM scorebeat.workers WHERE name LIKE :end"

    assert system.query(listed, end=f"%/{worker.pid}") == [(["elsewhere"], 2)]

    worker.terminate()
    assert worker.wait(20) == 0
    assert system.query(listed, end=f"%/{worker.pid}") == []
