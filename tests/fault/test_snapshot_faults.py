"""Runs with a snapshot, whose planner, worker or database dies between two steps."""

from collections.abc import Iterator

import pytest

from scorebeat.core.states import RunState
from scorebeat.producer.control.plan import plan
from tests.support.fixtures import kill_group, wait_for
from tests.support.gates import Step, build_gates, has_backend, of_batch
from tests.support.system import AT_THE_GATE, System, assert_scored_once, own_system

pytestmark = pytest.mark.slow

TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'scorebeat_work'::regnamespace AND relkind = 'r'"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system")) as made:
        build_gates(made)
        made.programs.worker("control", name="control")
        made.programs.beat()
        yield made


def nothing_is_left(system: System) -> None:
    wait_for(lambda: not system.query(TABLES))


def test_a_planner_that_is_killed_while_the_query_runs_loses_and_doubles_nothing(system: System) -> None:
    planner = system.programs.worker("plan", name="plan")
    worker = system.programs.worker("cpu")
    job = system.job("killed_in_the_query", where=AT_THE_GATE, snapshot=True)
    with system.closed_gate():
        run = system.enqueue(job)
        waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'advisory' AND query LIKE '%rows_read_only%'"
        ((backend,),) = wait_for(lambda: system.query(waiting))
        kill_group(planner)
        wait_for(lambda: not has_backend(system, backend))
    assert system.query(TABLES) == []
    planner = system.programs.worker("plan", name="plan")

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert system.query("SELECT plan_attempt FROM scorebeat.runs WHERE id = :id", id=run) == [(2,)]
    assert_scored_once(system, job)
    nothing_is_left(system)
    kill_group(planner)
    kill_group(worker)


def test_a_planner_killed_while_it_stores_batches_leaves_none_and_plans_again(
    system: System,
) -> None:
    planner = system.programs.worker("plan", name="plan")
    worker = system.programs.worker("cpu")
    job = system.job("killed_while_it_cut", snapshot=True)
    gate = of_batch(system, Step.BATCH_PLANNED, job, number=2)
    with gate.closed():
        run = system.enqueue(job)
        gate.backend()
        kill_group(planner)
    planner = system.programs.worker("plan", name="plan")

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert [state for state, _, _ in system.batches(run)] == ["committed"] * 4
    assert_scored_once(system, job)
    nothing_is_left(system)
    kill_group(planner)
    kill_group(worker)


def test_a_worker_that_is_killed_in_the_middle_of_a_batch_loses_and_doubles_nothing(system: System) -> None:
    job = system.job("killed_in_a_batch", snapshot=True)
    run = system.enqueue(job)
    plan(system.p, run)
    gate = of_batch(system, Step.BATCH_DONE, job, number=2)
    with gate.closed():
        worker = system.programs.worker("cpu")
        backend = gate.backend()
        kill_group(worker)
        wait_for(lambda: not has_backend(system, backend))  # it would commit what it was sent
    another = system.programs.worker("cpu")

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert max(attempt for _, attempt, _ in system.batches(run)) == 2
    assert_scored_once(system, job)
    nothing_is_left(system)
    kill_group(another)


def test_a_snapshot_outlives_a_crash_of_the_database_between_plan_and_scoring(system: System) -> None:
    job = system.job("crashed_after_the_plan", snapshot=True)
    run = system.enqueue(job)
    plan(system.p, run)
    system.execute("CREATE UNLOGGED TABLE lost AS SELECT 1 AS x")
    # the servers of tests write their log late: what was planned must be in it
    system.execute("SET LOCAL synchronous_commit = on; SELECT pg_logical_emit_message(true, 'test', 'x')")

    system.servers.restart("database", "SIGQUIT")
    system.p.engine.dispose()
    worker = system.programs.worker("cpu")

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert system.query("SELECT count(*) FROM lost") == [(0,)]
    assert_scored_once(system, job)
    nothing_is_left(system)
    kill_group(worker)
