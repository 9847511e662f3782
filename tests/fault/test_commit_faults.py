"""Faults in the middle of a commit: the worker, its backend or the whole database goes, or hangs."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from subprocess import Popen

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from scorebeat.core.states import RunState
from tests.support.fixtures import kill_group, wait_for
from tests.support.gates import Step, build_gates, has_backend, of_batch, of_copy, others_go_on, stopped
from tests.support.system import AT_THE_GATE, GATED, IN_A_FETCH, System, assert_scored_once, children, own_system

pytestmark = pytest.mark.slow

Workers = list["Popen[bytes]"]

WAITS = {"claim_ttl": timedelta(seconds=2), "heartbeat": timedelta(milliseconds=300)}
BUT_THE_FIRST = f"CASE WHEN id > -150 AND {IN_A_FETCH} THEN {AT_THE_GATE}"
"""Fetches of all batches wait before the gate but that of the first fifty rows."""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system"), **WAITS) as made:
        build_gates(made)
        made.programs.control()
        yield made


@pytest.fixture(scope="module")
def known() -> Workers:
    """Workers that tests share, as long as they live."""
    return []


@pytest.fixture
def workers(system: System, known: Workers) -> Workers:
    """Two workers of one process each."""
    known[:] = [worker for worker in known if worker.poll() is None]
    while len(known) < 2:
        known.append(start_worker(system, "cpu", processes=1))
    return known


def start_worker(system: System, queue: str, processes: int) -> "Popen[bytes]":
    """A worker whose processes are soon ready: their parent has the model's libraries loaded."""
    options = ("-Q", queue, "-n", f"w{len(system.programs.started)}@%h", "-c", str(processes))
    quiet = ("-l", "INFO", "-I", "scorebeat.models.formats.sklearn.skops_format")
    return system.programs.start("celery", "-A", "scorebeat.worker", "worker", *options, *quiet)


def holder(system: System, run: int, workers: Workers) -> "Popen[bytes]":
    """The worker that has the run's first batch."""
    return next(worker for worker in workers if worker.pid == system.worker_of(run))


def kill_child(worker: "Popen[bytes]") -> None:
    (child,) = children(worker.pid)
    os.kill(child, signal.SIGKILL)
    wait_for(lambda: child not in children(worker.pid))


def attempts(system: System, run: int) -> list[tuple[str, int]]:
    return [(state, attempt) for state, attempt, _ in system.batches(run)]


def scored(system: System, run: int) -> int:
    """Rows that the batches recorded as scored: all, unless an attempt that failed left predictions."""
    return int(system.query("SELECT sum(rows_scored) FROM scorebeat.batches WHERE run_id = :id", id=run)[0][0])


def test_a_process_that_is_killed_between_predict_and_commit_costs_one_attempt(
    system: System, workers: Workers
) -> None:
    job = system.job("killed_before", batch_rows=200, where=GATED)
    with ExitStack() as held:
        with system.closed_gate():
            run = system.enqueue(job)
            system.at_the_gate()
            batch = held.enter_context(system.engine.begin())
            batch.execute(text("SELECT 1 FROM scorebeat.batches WHERE run_id = :id FOR UPDATE"), {"id": run})
        wait_for(lambda: _at_the_fence(system))
        kill_child(holder(system, run, workers))

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert attempts(system, run) == [("committed", 2)]
    assert scored(system, run) == 200
    assert_scored_once(system, job)


def _at_the_fence(system: System) -> bool:
    return bool(
        system.query(
            "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE '% data' AND wait_event_type = 'Lock'"
            " AND query LIKE '%SELECT id FROM scorebeat.batches WHERE id = %'"  # what follows is cut off
        )
    )


@pytest.mark.parametrize("step", [Step.ROWS_COPIED, Step.BATCH_DONE], ids=["the COPY", "the batch's state"])
def test_the_backend_of_a_process_killed_in_its_commit_goes_and_leaves_nothing(
    system: System, workers: Workers, step: Step
) -> None:
    job = system.job(f"killed_in_{step}", batch_rows=200)
    gate = of_copy(system, job) if step is Step.ROWS_COPIED else of_batch(system, step, job)
    with gate.closed():
        run = system.enqueue(job)
        orphan = gate.backend()
        kill_child(holder(system, run, workers))
        gate.backend(instead_of=orphan)  # the second attempt came as far
        assert not has_backend(system, orphan)
        assert attempts(system, run) == [("claimed", 2)]

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert attempts(system, run) == [("committed", 2)]
    assert scored(system, run) == 200
    assert_scored_once(system, job)


def test_a_backend_that_keeps_its_locks_when_its_client_is_gone_is_in_nobodys_way(
    system: System, workers: Workers
) -> None:
    job, bystander = system.job("orphaned"), system.job("beside_orphaned", where=GATED)
    gate = of_batch(system, Step.BATCH_DONE, job)
    with gate.closed():
        run = system.enqueue(job)
        with stopped(gate.backend()):
            kill_group(holder(system, run, workers))
            until_expired(system, run)
            others_go_on(system, bystander)
            assert attempts(system, run)[0] == ("claimed", 1)

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert attempts(system, run) == [("committed", 2), *[("committed", 1)] * 3]
    assert_scored_once(system, job)


def until_expired(system: System, run: int) -> None:
    """Wait for the end of the claim of the run's first batch; all others are committed meanwhile."""
    statement = (
        "SELECT 1 FROM scorebeat.batches WHERE run_id = :id AND number = 1 AND claim_expires_at < clock_timestamp()"
    )
    wait_for(lambda: system.query(statement, id=run))
    wait_for(lambda: attempts(system, run) == [("claimed", 1), *[("committed", 1)] * 3])


def test_a_commit_that_hangs_past_its_claim_blocks_nobody_and_is_not_undone(system: System, workers: Workers) -> None:
    job, bystander = system.job("standing"), system.job("beside_standing", where=GATED)
    gate = of_batch(system, Step.BATCH_DONE, job)
    with gate.closed():
        run = system.enqueue(job)
        gate.backend()
        with stopped(-holder(system, run, workers).pid):
            until_expired(system, run)
            others_go_on(system, bystander)
            assert attempts(system, run)[0] == ("claimed", 1)

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert attempts(system, run) == [("committed", 1)] * 4
    assert_scored_once(system, job)


def test_a_slow_commit_keeps_no_other_claim_of_its_worker_from_being_renewed(system: System) -> None:
    job = system.job("slow_commit", where=f"{BUT_THE_FIRST} ELSE true END", queue="slow")
    gate = of_batch(system, Step.BATCH_DONE, job)
    worker = start_worker(system, "slow", processes=2)
    with system.closed_gate(), gate.closed():
        run = system.enqueue(job)
        gate.backend()
        system.at_the_gate()
        system.until_older_than_a_claim(run)
        assert attempts(system, run)[:2] == [("claimed", 1)] * 2

    assert system.until_finished(run) is RunState.SUCCEEDED
    kill_group(worker)
    assert attempts(system, run) == [("committed", 1)] * 4
    assert_scored_once(system, job)


def test_a_late_worker_that_commits_during_anothers_commit_writes_nothing(system: System, workers: Workers) -> None:
    job = system.job("late", batch_rows=200, where=GATED)
    gate = of_batch(system, Step.BATCH_DONE, job)
    with gate.closed():
        with system.closed_gate():
            run = system.enqueue(job)
            system.at_the_gate()
            late = holder(system, run, workers)
            with stopped(-late.pid):
                wait_for(lambda: attempts(system, run) == [("claimed", 2)])
        gate.backend()
        wait_for(lambda: f"claim.lost run={run} batch={system.first_batch(run)} attempt=1" in system.programs.log(late))
        assert attempts(system, run) == [("claimed", 2)]

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert attempts(system, run) == [("committed", 2)]
    assert system.worker_of(run) != late.pid
    assert_scored_once(system, job)


def stop_fast(system: System, _: int) -> None:
    system.servers.restart("database", "SIGINT")


def stop_at_once(system: System, _: int) -> None:
    system.servers.restart("database", "SIGQUIT")


def kill_backend(system: System, backend: int) -> None:
    """PostgreSQL ends all its backends then, and recovers by itself."""
    os.kill(backend, signal.SIGKILL)
    wait_for(lambda: _is_back_without(system, backend))


def _is_back_without(system: System, backend: int) -> bool:
    try:
        return not has_backend(system, backend)
    except OperationalError:
        return False


@pytest.mark.parametrize("fault", [stop_fast, stop_at_once, kill_backend])
def test_a_database_that_goes_in_mid_commit_keeps_all_of_it_or_nothing(
    system: System, workers: Workers, fault: Callable[[System, int], None]
) -> None:
    job = system.job(fault.__name__)
    gate = of_batch(system, Step.BATCH_DONE, job)
    with gate.closed():
        run = system.enqueue(job)
        backend = gate.backend()
        wait_for(lambda: attempts(system, run) == [("claimed", 1), *[("committed", 1)] * 3])
        system.execute("CHECKPOINT")  # the tests' servers write late, and would forget commits that are not the point
        fault(system, backend)

    assert system.until_finished(run) is RunState.SUCCEEDED
    # a fast stop ends the gate's session as well: if that goes first, the commit may yet be kept, whole
    kept = [1, 2] if fault is stop_fast else [2]
    assert attempts(system, run) in [[("committed", attempt), *[("committed", 1)] * 3] for attempt in kept]
    assert scored(system, run) == 200
    assert all(worker.poll() is None for worker in workers)
    assert_scored_once(system, job)
