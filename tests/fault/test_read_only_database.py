"""A database that takes no writes for a while: a freeze by its owner, as in a failover, while a run goes on."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import make_url

from scorebeat.core.states import RunState
from tests.support.fixtures import typed, wait_for
from tests.support.system import SLOW, System, assert_scored_once, own_system

pytestmark = pytest.mark.slow

REFUSED = "read-only transaction"


@pytest.fixture
def system(tmp_path: Any) -> Iterator[System]:
    with own_system(tmp_path) as made:
        yield made


def test_work_goes_on_after_the_database_took_no_writes_and_workers_began_meanwhile(system: System) -> None:
    programs = system.programs
    control = programs.worker("control", "plan", name="control")
    first = programs.worker("cpu", processes=2)
    programs.beat()
    job = system.job("frozen", rows=2_000, batch_rows=20, where=SLOW)
    later = system.job("frozen_too", rows=200)
    run = system.enqueue(job)
    wait_for(lambda: len(committed(system, run)) >= 5)

    freeze(system, "SET default_transaction_read_only = on")
    programs.stop(first)
    programs.stop(control)
    begun = [programs.worker("cpu", processes=2), programs.worker("control", "plan", name="control")]
    wait_for(lambda: all(REFUSED in programs.log(one) for one in begun))
    outputs = [scorebeat(system, *words) for words in (("check",), ("health", "worker"), ("health", "control"))]
    freeze(system, "RESET default_transaction_read_only")

    assert system.until_finished(run, within=90) is RunState.SUCCEEDED
    assert {state for state, *_ in system.batches(run)} == {"committed"}
    assert max(attempt for _, attempt, _ in system.batches(run)) <= 3
    assert_scored_once(system, job)
    assert system.until_finished(system.enqueue(later)) is RunState.SUCCEEDED
    assert_scored_once(system, later)
    assert all("PostgreSQL takes no writes: default_transaction_read_only is on" in output for output in outputs), (
        outputs
    )
    assert "takes no writes" not in scorebeat(system, "check")


def test_connections_that_began_read_only_are_replaced_and_spend_no_attempt(system: System) -> None:
    system.programs.worker("control", "plan", name="control")
    system.programs.beat()
    system.until_served("control", "plan")
    job = system.job("thawed", rows=400, batch_rows=10)
    run = system.enqueue(job)
    system.until_planned(run)
    assert len(system.batches(run)) == 40
    freeze(system, "SET default_transaction_read_only = on")
    worker = system.programs.worker("cpu", processes=2)
    wait_for(lambda: system.programs.log(worker).count("cannot execute UPDATE in a read-only transaction") >= 2)
    freeze(system, "RESET default_transaction_read_only")

    assert system.until_finished(run, within=90) is RunState.SUCCEEDED
    assert {(state, attempt) for state, attempt, _ in system.batches(run)} == {("committed", 1)}
    assert_scored_once(system, job)


def freeze(system: System, how: str) -> None:
    """ALTER DATABASE, which sessions that are there do not notice; by one that may write whatever is set."""
    name = make_url(system.settings.database()).database
    with system.engine.begin() as connection:
        connection.exec_driver_sql("SET TRANSACTION READ WRITE")
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" {how}')


def committed(system: System, run: int) -> list[Any]:
    return [state for state, *_ in system.batches(run) if state == "committed"]


def scorebeat(system: System, *words: str) -> str:
    """The text that a person reads."""
    done = typed(system.settings, *words)
    return done.stdout + done.stderr
