"""The control tick goes on: a failure in one part, run, queue or job is reported, and stops nothing else."""

import logging
from typing import Any

import psycopg2.errors
import pytest
from sqlalchemy.exc import OperationalError

from scorebeat.core.errors import UsageError
from scorebeat.core.states import RunState
from scorebeat.db.closing import atomic_runs, close_run
from scorebeat.db.closing.close_run import BegunAgain, Settled
from scorebeat.db.ledger import batches
from scorebeat.db.ledger import outbox as marks
from scorebeat.db.processes import workers
from scorebeat.producer.control import control_round
from scorebeat.producer.control.control_round import run_once
from scorebeat.producer.control.notices import notify
from scorebeat.producer.control.ticks import tick
from scorebeat.producer.control.upkeep import rescue
from scorebeat.producer.control.upkeep.settle import settle
from scorebeat.producer.requests.requeue import requeue
from tests.support.ledger_rows import add_batch, add_run
from tests.support.poison_fixtures import Points, assert_accounted, points
from tests.support.receiver import logged_events

__all__ = ["points"]

TABLE = "predictions.points_job__poison_v1"

PARTS = {
    "clock": (control_round, "_correct_timestamps"),
    "forget": (workers, "forget"),
    "rescue": (control_round, "rescue"),
    "settle": (control_round, "settle_all"),
    "dispatch": (control_round, "dispatch_all"),
    "make_up": (control_round, "make_up"),
    "begin_again": (control_round, "begin_again"),
    "overdue": (control_round, "note_overdue"),
    "notify": (notify, "note_ends"),
}


class Busy(psycopg2.errors.LockNotAvailable):  # type: ignore[misc]  # psycopg2 publishes no types
    pgcode = "55P03"


def lock_timeout() -> OperationalError:
    return OperationalError("SELECT 1", {}, Busy("canceling statement due to lock timeout"))


def two_runs(points: Points) -> list[int]:
    """Two runs of two jobs, with nothing left to do."""
    with points.engine.begin() as connection:
        runs = [add_run(connection, job=name) for name in ("one", "two")]
        for run in runs:
            add_batch(connection, run, "committed", rows_scored=10)
        connection.exec_driver_sql("UPDATE scorebeat.runs SET plan_is_whole = true")
    return runs


@pytest.mark.parametrize("broken", PARTS)
def test_a_part_of_the_tick_that_fails_stops_no_other(
    points: Points, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    done: list[str] = []

    def part(name: str) -> Any:
        def do(_: object) -> int:
            done.append(name)
            if name == broken:
                raise ValueError("a bug")
            return 0

        return do

    for name, (module, function) in PARTS.items():
        monkeypatch.setattr(module, function, part(name))

    with caplog.at_level(logging.INFO, "scorebeat"):
        run_once(points.producer)

    assert done == list(PARTS)
    assert [(f["part"], f["reason"]) for f in logged_events(caplog, "control.failed")] == [(broken, "a bug")]


def test_a_run_whose_table_is_gone_fails_with_the_reason_and_other_jobs_go_on(points: Points) -> None:
    points.fill(60)
    points.model({})
    broken = points.planned(points.job(name="broken", batch_rows=20, on_failure="retry-run"))
    points.sql("UPDATE scorebeat.batches SET state = 'dead', error = 'oh', finished_at = now(), sent_at = NULL")
    points.sql("DROP TABLE predictions.broken__poison_v1 CASCADE")
    with points.engine.begin() as connection:
        other = add_run(connection, job="other")
        add_batch(connection, other, queue="theirs")

    done = run_once(points.producer)

    failed = points.run(broken)
    assert failed.state is RunState.FAILED
    assert 'relation "predictions.broken__poison_v1" does not exist' in str(failed.reason)
    assert points.batches(other, "sent_at IS NOT NULL") == [True]
    assert (done.settled, done.dispatched) == (1, 1)
    assert run_once(points.producer).settled == 0


def test_a_run_that_cannot_be_closed_just_now_waits_and_others_are_closed(
    points: Points, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = two_runs(points)
    real = close_run.settle

    def settle_one(connection: Any, run_id: int, attempts: int) -> Settled | BegunAgain | None:
        if run_id == first:
            raise lock_timeout()
        return real(connection, run_id, attempts)

    with monkeypatch.context() as patch, caplog.at_level(logging.INFO, "scorebeat"):
        patch.setattr(close_run, "settle", settle_one)
        assert run_once(points.producer).settled == 1

    assert (points.run(first).state, points.run(second).state) == (RunState.RUNNING, RunState.SUCCEEDED)
    assert [f["run"] for f in logged_events(caplog, "run.waits")] == [first]
    assert settle(points.producer, first) is RunState.SUCCEEDED


def test_a_run_that_meets_a_bug_when_it_is_closed_stops_no_other(
    points: Points, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = two_runs(points)
    real = close_run.settle

    def settle_one(connection: Any, run_id: int, attempts: int) -> Settled | BegunAgain | None:
        return real(connection, run_id, attempts) if run_id == second else 1 // 0  # type: ignore[return-value]  # never returned

    monkeypatch.setattr(close_run, "settle", settle_one)
    with caplog.at_level(logging.INFO, "scorebeat"):
        run_once(points.producer)

    assert points.run(second).state is RunState.SUCCEEDED
    assert [(f["part"], f["of"]) for f in logged_events(caplog, "control.failed")] == [("settle", first)]


def test_a_queue_that_cannot_be_dispatched_stops_no_other(
    points: Points, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with points.engine.begin() as connection:
        run = add_run(connection)
        for number, queue in enumerate(("a", "b", "c"), 1):
            add_batch(connection, run, number=number, queue=queue)
    real = marks.mark_sent

    def mark(connection: Any, queue: str, *rest: Any) -> list[int]:
        if queue == "b":
            raise lock_timeout()
        return real(connection, queue, *rest)

    monkeypatch.setattr(marks, "mark_sent", mark)
    with caplog.at_level(logging.INFO, "scorebeat"):
        run_once(points.producer)

    assert points.batches(run, "sent_at IS NOT NULL") == [True, False, True]
    assert [(f["part"], f["of"]) for f in logged_events(caplog, "control.failed")] == [("dispatch", "b")]


def test_claims_that_cannot_be_rescued_stop_no_plan_from_being_rescued(
    points: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    with points.engine.begin() as connection:
        run = add_run(connection, "planning")
        connection.exec_driver_sql("UPDATE scorebeat.runs SET plan_expires_at = now() - interval '1 s'")

    def fail(_: object) -> None:
        raise lock_timeout()

    monkeypatch.setattr(batches, "rescue", fail)

    assert rescue.rescue(points.producer) == 1
    assert points.sql("SELECT plan_expires_at > now() FROM scorebeat.runs WHERE id = :id", id=run) == [True]


def test_a_job_whose_tick_fails_stops_no_others(points: Points, monkeypatch: pytest.MonkeyPatch) -> None:
    points.fill(20)
    points.model({})
    with points.engine.begin() as connection:
        add_run(connection, "succeeded", job="aa")
    points.sql("UPDATE scorebeat.jobs SET spec = spec || CAST(:more AS jsonb)", more='{"schedule": "every 1 minute"}')
    points.sql(
        "INSERT INTO scorebeat.jobs (name, spec) SELECT 'bb', spec || CAST(:more AS jsonb) FROM scorebeat.jobs",
        more='{"name": "bb"}',
    )
    points.sql("UPDATE scorebeat.jobs SET last_due_at = now() - interval '1 hour'")
    jobs: list[str] = []

    def opened(*arguments: Any) -> int:
        jobs.append(arguments[-1].job)
        raise lock_timeout()

    monkeypatch.setattr(tick, "open_run", opened)
    run_once(points.producer)

    assert jobs == ["aa", "bb"]


def test_a_job_that_left_the_file_does_not_keep_its_last_run_open(points: Points) -> None:
    with points.engine.begin() as connection:
        run = add_run(connection)
        add_batch(connection, run, "dead")
        connection.exec_driver_sql(
            "UPDATE scorebeat.jobs SET removed_at = now();"
            """ UPDATE scorebeat.runs SET spec = spec || '{"dead_runs": 1}', plan_is_whole = true"""
        )

    assert settle(points.producer, run) is RunState.FAILED

    assert "could not be closed" not in str(points.run(run).reason)


@pytest.mark.slow
def test_a_run_whose_generation_was_dropped_is_not_requeued(points: Points) -> None:
    points.fill(60)
    points.model({"raise": [5]})
    job = points.job(batch_rows=20, on_failure="retry-run", rescore="every-run", keep=1)
    old = points.scored(job)
    points.mend()
    for _ in range(3):
        points.scored(job)

    with pytest.raises(UsageError, match="was dropped; nothing was put back"):
        requeue(points.producer, old, "ann")

    assert points.run(old).state is RunState.FAILED
    assert run_once(points.producer).settled == 0


def test_a_whole_run_that_cannot_be_shown_fails_and_leaves_nothing(
    points: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    points.fill(40)
    points.model({})
    job = points.job(batch_rows=20, on_failure="retry-run")

    with monkeypatch.context() as patched:
        patched.setattr(atomic_runs, "show", not_shown)
        run = points.scored(job)

    assert points.run(run).state is RunState.FAILED
    assert "could not be closed: a reader's view. Nothing new is shown" in str(points.run(run).reason)
    assert points.sql(f"SELECT count(*) FROM {TABLE}") == [0]
    points.scored(job)
    assert_accounted(points.engine, job, {})


def not_shown(*_: object) -> None:
    raise UsageError("a reader's view")
