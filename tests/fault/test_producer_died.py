"""Producers that are killed between two of their steps, and locks of the dead that hold up no other work."""

from collections.abc import Iterator
from datetime import timedelta
from subprocess import Popen

import pytest
from sqlalchemy import text

from scorebeat.core.states import RunState
from tests.support.fixtures import kill_group, wait_for
from tests.support.gates import Gate, Step, build_gates, of_batch, others_go_on, stopped
from tests.support.system import GATED, System, assert_scored_once, own_system

pytestmark = pytest.mark.slow

WAITS = {"claim_ttl": timedelta(seconds=2), "heartbeat": timedelta(milliseconds=300)}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system"), **WAITS) as made:
        build_gates(made)
        made.programs.worker("control", name="control")
        made.programs.beat()
        made.programs.worker("cpu", processes=2)
        yield made


class Planner:
    """A worker that plans and does nothing else; another replaces it when it was killed."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._worker = self._start()

    def kill(self) -> None:
        kill_group(self._worker)

    def replace(self) -> None:
        if self._worker.poll() is not None:
            self._worker = self._start()

    def _start(self) -> "Popen[bytes]":
        return self._system.programs.worker("plan", name="plan")


@pytest.fixture(scope="module")
def shared(system: System) -> Planner:
    return Planner(system)


@pytest.fixture
def planner(shared: Planner) -> Planner:
    """The one planner there is, and it lives."""
    shared.replace()
    return shared


@pytest.mark.usefixtures("planner")
def test_a_run_whose_producer_was_killed_before_it_sent_the_plan_is_planned(system: System) -> None:
    job = system.job("unsent_plan")
    gate = Gate(system, Step.RUN_OPENED, "runs")
    with gate.closed():
        process = system.programs.start("producer", job.name)
        gate.backend()
        system.servers.send_signal("broker", "SIGSTOP")
    run = wait_for(lambda: system.query("SELECT id FROM scorebeat.runs WHERE job = :job", job=job.name))[0][0]
    kill_group(process)
    system.servers.restart("broker", "SIGKILL")  # what was written to its socket is lost

    assert "is enqueued" not in system.programs.log(process)
    assert system.until_finished(run) is RunState.SUCCEEDED
    assert plan_of(system, run) == (1, None)
    assert_scored_once(system, job)


def plan_of(system: System, run: int) -> tuple[int, str | None]:
    """How often the run's planning was begun, and its reason."""
    ((attempt, reason),) = system.query("SELECT plan_attempt, reason FROM scorebeat.runs WHERE id = :id", id=run)
    return attempt, reason


def test_batches_whose_planner_was_killed_before_it_sent_them_are_sent(system: System, planner: Planner) -> None:
    job = system.job("unsent_batches")
    gate = of_batch(system, Step.BATCH_PLANNED, job, number=2)
    with gate.closed():
        run = system.enqueue(job)
        gate.backend()
        system.servers.send_signal("broker", "SIGSTOP")
    statement = "SELECT 1 FROM scorebeat.batches WHERE run_id = :id AND state = 'pending' AND sent_at IS NOT NULL"
    wait_for(lambda: len(system.query(statement, id=run)) >= 3)
    planner.kill()
    system.servers.restart("broker", "SIGKILL")

    assert system.until_finished(run) is RunState.PARTIAL  # nobody lives who knows that these were all
    assert [state for state, _, _ in system.batches(run)] == ["committed"] * 4
    assert_scored_once(system, job)


def test_a_plan_whose_planner_was_killed_is_closed_and_the_next_run_goes_on(system: System, planner: Planner) -> None:
    job = system.job("half_planned")
    gate = of_batch(system, Step.BATCH_PLANNED, job, number=2)
    with gate.closed():
        run = system.enqueue(job)
        gate.backend()
        planner.kill()
        assert system.until_finished(run) is RunState.PARTIAL

    assert_cut_short(system, run)
    planner.replace()
    assert system.until_finished(system.enqueue(job)) is RunState.SUCCEEDED
    assert_scored_once(system, job)


def assert_cut_short(system: System, run: int) -> None:
    attempt, reason = plan_of(system, run)
    assert attempt == 1
    assert reason is not None
    assert "planning was cut short" in reason
    assert len(system.batches(run)) == 1


def test_a_planners_backend_that_keeps_its_locks_holds_up_no_other_run(system: System, planner: Planner) -> None:
    job, bystander = system.job("locked_plan"), system.job("beside_locked_plan", where=GATED)
    gate = of_batch(system, Step.BATCH_PLANNED, job, number=2)
    with gate.closed():
        run = system.enqueue(job)
        with stopped(gate.backend()):
            planner.kill()
            planner.replace()
            expired = "SELECT 1 FROM scorebeat.runs WHERE id = :id AND plan_expires_at < now()"
            wait_for(lambda: system.query(expired, id=run))
            others_go_on(system, bystander, fetches=2)

    assert system.until_finished(run) is RunState.PARTIAL
    assert_cut_short(system, run)
    assert system.until_finished(system.enqueue(job)) is RunState.SUCCEEDED
    assert_scored_once(system, job)


@pytest.mark.usefixtures("planner")
def test_a_claim_that_hangs_holds_up_no_other_batch(system: System) -> None:
    job = system.job("locked_claim", where=GATED)
    gate = of_batch(system, Step.BATCH_CLAIMED, job)
    with gate.closed():
        with system.closed_gate():
            run = system.enqueue(job)
            backend = gate.backend()
            system.at_the_gate()
            system.flush_broker()
        with stopped(backend):
            wait_for(lambda: [state for state, _, _ in system.batches(run)] == ["pending", *["committed"] * 3], 9)

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert_scored_once(system, job)


@pytest.mark.usefixtures("planner")
def test_a_run_that_cannot_be_closed_yet_holds_up_no_other(system: System) -> None:
    job, bystander = system.job("locked_run", batch_rows=200), system.job("beside_locked_run", where=GATED)
    gate = of_batch(system, Step.BATCH_DONE, job)
    with system.engine.begin() as held:
        with gate.closed():
            run = system.enqueue(job)
            gate.backend()
            held.execute(text("SELECT 1 FROM scorebeat.runs WHERE id = :id FOR UPDATE"), {"id": run})
        wait_for(lambda: system.batches(run)[0][0] == "committed")
        others_go_on(system, bystander, fetches=2)

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert_scored_once(system, job)
