"""Counters never go down, whatever a requeue, a second try or a prune does; lateness and waits are reported truly."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.db.closing import atomic_runs, close_run, run_totals
from scorebeat.db.closing.close_run import BegunAgain
from scorebeat.db.ledger import batches, runs
from scorebeat.db.ledger.failures import requeued
from tests.support.cli_fixtures import Cli
from tests.support.ledger_fixtures import Ledger, ledger, trained
from tests.support.ledger_rows import add_batch, add_run
from tests.support.old_rows import fail_rows, job
from tests.support.scrape import of, samples

__all__ = ["job", "ledger", "trained"]

JOB = "flowers_job"


def number(engine: Engine, name: str) -> float:
    return of(samples(engine), name, job=JOB)


def note(engine: Engine) -> None:
    with engine.begin() as connection:
        run_totals.note(connection)


def sql(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement))


def test_a_row_that_failed_stays_counted_when_it_is_requeued_and_scored(
    scorebeat: Cli, ledger: Ledger, job: Job
) -> None:
    run_id = ledger.scored(job)
    fail_rows(ledger, run_id, 5, 6)
    ledger.sql("UPDATE scorebeat.runs SET state = 'partial'")
    seen = [number(ledger.engine, "rows_failed_total")]

    def look() -> None:
        seen.append(number(ledger.engine, "rows_failed_total"))

    note(ledger.engine)
    look()
    assert scorebeat("requeue", str(run_id)).exit_code == 0
    look()
    ledger.score(run_id)
    look()
    note(ledger.engine)
    look()
    fail_rows(ledger, run_id, 5)
    ledger.sql("UPDATE scorebeat.runs SET noted_at = NULL")
    look()

    assert ledger.run(run_id).state is RunState.SUCCEEDED
    assert seen == [2, 2, 2, 2, 2, 3]


def test_rows_that_failed_in_a_try_of_a_whole_run_stay_counted_in_the_next(engine: Engine) -> None:
    with engine.begin() as connection:
        run_id = add_run(connection)
        connection.execute(text('UPDATE scorebeat.runs SET spec = spec || \'{"on_failure": "retry-run"}\''))
        connection.exec_driver_sql(f'ALTER TABLE predictions."{JOB}__t" ADD COLUMN batch_id bigint')
        add_batch(connection, run_id, "committed", rows_scored=7, rows_failed=3)
    seen = [number(engine, "rows_failed_total")]

    with engine.begin() as connection:
        assert isinstance(close_run.settle(connection, run_id, 5), BegunAgain)
    seen.append(number(engine, "rows_failed_total"))
    sql(engine, "UPDATE scorebeat.batches SET rows_failed = 1")
    seen.append(number(engine, "rows_failed_total"))
    with engine.begin() as connection:
        runs.cancel(connection, run_id, "test")
        batches.cancel(connection, run_id)
    seen.append(number(engine, "rows_failed_total"))
    note(engine)

    assert [*seen, number(engine, "rows_failed_total")] == [3, 3, 4, 4, 4]


def test_a_whole_run_that_ends_with_less_than_before_takes_no_scored_row_off(engine: Engine) -> None:
    with engine.begin() as connection:
        run_id = add_run(connection, "failed")
        connection.execute(text('UPDATE scorebeat.runs SET spec = spec || \'{"on_failure": "retry-run"}\''))
        add_batch(connection, run_id, "committed", rows_scored=9)
    note(engine)
    seen = [number(engine, "rows_scored_total")]

    with engine.begin() as connection:
        runs.reopen(connection, run_id)
        atomic_runs.begin_again(connection, runs.get(connection, run_id), 5, timedelta(0))
    seen.append(number(engine, "rows_scored_total"))
    with engine.begin() as connection:
        runs.cancel(connection, run_id, "test")
        batches.cancel(connection, run_id)
    seen.append(number(engine, "rows_scored_total"))
    note(engine)

    assert [*seen, number(engine, "rows_scored_total")] == [9, 9, 9, 9]


@pytest.mark.parametrize(("deadline", "late"), [("-1 s", 1), ("1 h", 0)])
def test_a_run_that_ended_right_after_its_deadline_was_late_and_stays_so(
    engine: Engine, deadline: str, late: int
) -> None:
    with engine.begin() as connection:
        run_id = add_run(connection, "partial")
        add_batch(connection, run_id, "dead")
        connection.execute(text(f"UPDATE scorebeat.runs SET deadline_at = now() + interval '{deadline}'"))
    seen = [number(engine, "runs_late_total")]

    note(engine)
    seen.append(number(engine, "runs_late_total"))
    with engine.begin() as connection:
        runs.reopen(connection, run_id)
        connection.execute(text("UPDATE scorebeat.runs SET deadline_at = now() - interval '1 s'"))
    seen.append(number(engine, "runs_late_total"))
    with engine.begin() as connection:
        runs.cancel(connection, run_id, "test")
    note(engine)

    assert [*seen, number(engine, "runs_late_total")] == [late] * 4


def test_an_open_run_is_counted_as_late_when_its_deadline_passes_and_never_twice(engine: Engine) -> None:
    with engine.begin() as connection:
        run_id = add_run(connection)
        connection.execute(text("UPDATE scorebeat.runs SET deadline_at = now() + interval '1 h'"))
    seen = [number(engine, "runs_late_total")]

    sql(engine, "UPDATE scorebeat.runs SET deadline_at = now() - interval '1 s'")
    seen.append(number(engine, "runs_late_total"))
    with engine.begin() as connection:
        runs.cancel(connection, run_id, "test")
    seen.append(number(engine, "runs_late_total"))
    note(engine)

    assert [*seen, number(engine, "runs_late_total")] == [0, 1, 1, 1]


def test_the_oldest_pending_batch_is_as_old_as_its_waiting_not_as_its_run(engine: Engine) -> None:
    with engine.begin() as connection:
        run_id = add_run(connection)
        connection.execute(text("UPDATE scorebeat.runs SET created_at = now() - interval '5 h'"))
        old = add_batch(connection, run_id, "claimed")
        add_batch(connection, run_id, number=2)
        connection.execute(
            text("UPDATE scorebeat.batches SET pending_at = now() - interval '2 h' WHERE id = :id"), {"id": old}
        )
    seen = [number(engine, "oldest_pending_seconds")]

    def then(statement: str) -> None:
        sql(engine, statement)
        seen.append(number(engine, "oldest_pending_seconds"))

    then("UPDATE scorebeat.batches SET state = 'pending', claim_expires_at = NULL WHERE state = 'claimed'")
    then("UPDATE scorebeat.batches SET state = 'dead', error = 'oh', finished_at = now()")
    with engine.begin() as connection:
        requeued.requeue_dead(connection, run_id, 5)
    seen.append(number(engine, "oldest_pending_seconds"))

    assert 0 < seen[0] < 60
    assert 7200 <= seen[1] < 7260
    assert seen[2] == 0
    assert 0 < seen[3] < 60


def test_a_job_without_pending_batches_has_an_age_of_nought(ledger: Ledger, job: Job) -> None:
    ledger.scored(job)

    assert number(ledger.engine, "oldest_pending_seconds") == 0
