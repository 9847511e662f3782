"""A lock of somebody else, a session that takes no writes, a time limit: work is done, or a reason is read."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import SourceLocked
from scorebeat.core.states import RunState
from scorebeat.db.connect import read_only
from scorebeat.db.connect.engine import make_engine
from scorebeat.db.reports import status
from scorebeat.db.source.selection import planning_cursor
from scorebeat.producer.context import Producer
from scorebeat.producer.control.plan import plan
from scorebeat.producer.control.ticks.tick import tick
from scorebeat.producer.control.upkeep import settle
from scorebeat.producer.control.upkeep.rescue import rescue
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.worker.scoring import commit
from scorebeat.worker.scoring.attempt import Attempt
from scorebeat.worker.scoring.runtime import Runtime
from scorebeat.worker.scoring.score import Outcome, score_batch
from tests.support.poison_fixtures import Points, assert_accounted, points

pytestmark = pytest.mark.wide(slow=2, quick=4)

__all__ = ["points"]

AGAIN = "UPDATE scorebeat.runs SET plan_expires_at = now() - interval '1 s' WHERE state = 'planning'"


@contextmanager
def locked(points: Points, table: str, mode: str = "ACCESS EXCLUSIVE") -> Iterator[None]:
    """The table is locked by a session of another program until the block is left."""
    other = make_engine(points.settings.database(), "nightly load")
    with other.connect() as connection:
        connection.exec_driver_sql(f"LOCK TABLE {table} IN {mode} MODE")
        yield
        connection.rollback()
    other.dispose()


def reason(points: Points, run: int) -> str | None:
    """As `runs`, `show` and Flower read it."""
    with points.engine.connect() as connection:
        return status.get(connection, run).reason


def within(seconds: float, work: Callable[[], Any]) -> Any:
    began = time.monotonic()
    done = work()
    assert time.monotonic() - began < seconds
    return done


@pytest.mark.slow
def test_a_run_behind_a_lock_is_postponed_as_a_whole_and_spends_no_attempt(points: Points) -> None:
    points.fill(30)
    points.model({})
    job = points.job(batch_rows=10)
    run = points.planned(job)
    first = points.pending(run)[0]

    with locked(points, "points"):
        for _ in range(7):  # more often than a batch has attempts
            points.sql("UPDATE scorebeat.batches SET next_attempt_at = NULL WHERE id = :id", id=first)
            assert within(5, lambda: score_batch(first, points.runtime)) is Outcome.POSTPONED
        message = reason(points, run)

    assert str(message).startswith("waits for a lock on points, which process ")
    assert "(nightly load)" in str(message)
    assert points.batches(run, "state, attempts_left, sent_at IS NULL") == [("pending", 5, True)] * 3
    assert points.batches(run, "next_attempt_at > now()") == [True] * 3
    points.sql("UPDATE scorebeat.batches SET next_attempt_at = NULL WHERE id = :id", id=first)
    assert score_batch(first, points.runtime) is Outcome.COMMITTED
    assert points.batches(run, "next_attempt_at IS NULL") == [True] * 3  # the others need not wait any more
    assert points.work(run) is RunState.SUCCEEDED
    assert reason(points, run) is None
    assert_accounted(points.engine, job, {})


def test_a_commit_behind_a_lock_on_the_prediction_table_is_postponed_too(points: Points) -> None:
    points.fill(10)
    points.model({})
    job = points.job()
    run = points.planned(job)
    (table,) = points.sql("SELECT table_name FROM scorebeat.prediction_sets")

    with locked(points, f"predictions.{table}", "SHARE"):  # as CREATE INDEX does
        assert within(10, lambda: score_batch(points.pending(run)[0], points.runtime)) is Outcome.POSTPONED
        assert f"waits for a lock on predictions.{table}" in str(reason(points, run))

    assert points.batches(run, "state, attempts_left") == [("pending", 5)]
    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


@pytest.mark.quick
def test_a_plan_behind_a_lock_lets_others_go_first_and_names_the_lock(points: Points) -> None:
    points.fill(10)
    points.model({})
    job = points.job()
    run = enqueue(points.producer, Request(job.name, "test")).run_id

    with locked(points, "points"):
        for _ in range(4):  # more often than a plan has attempts
            assert within(5, lambda: plan(points.producer, run)) is None
            points.sql(AGAIN)
            assert rescue(points.producer) == 1
        assert str(reason(points, run)).startswith("waits for a lock on points, which process ")

    assert plan(points.producer, run) == 1
    assert reason(points, run) is None
    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


@pytest.mark.quick
def test_a_tick_whose_table_is_locked_opens_its_run_at_once(points: Points) -> None:
    points.fill(10)
    points.model({})
    job = points.job(schedule="every 1 day")
    points.sql("UPDATE scorebeat.jobs SET last_due_at = now() - interval '2 days'")

    with locked(points, "points"):
        run = within(3, lambda: tick(points.producer, job.name))
        assert run is not None
        points.sql("UPDATE scorebeat.runs SET state = 'cancelled', plan_expires_at = NULL, finished_at = now()")
        with pytest.raises(SourceLocked, match="Nothing was enqueued"):  # a person gets an error
            enqueue(points.producer, Request(job.name, "ann"))

    assert points.run(run).state is RunState.CANCELLED
    points.scored(job)
    assert_accounted(points.engine, job, {})


def test_a_tick_that_times_out_opens_no_run_and_comes_again(points: Points) -> None:
    points.fill(10)
    points.model({})
    points.sql(
        "CREATE FUNCTION slow() RETURNS bool IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM pg_sleep(0.5); RETURN true; END $$"
    )
    job = points.job(query="SELECT id, x FROM points WHERE slow()", schedule="every 10 seconds")
    points.sql("UPDATE scorebeat.jobs SET last_due_at = now() - interval '2 days'")
    set_for_all(points, "SET statement_timeout = '200ms'")
    limited = Producer(points.settings, "limited")

    with pytest.raises(DBAPIError, match="statement timeout"):
        tick(limited, job.name)

    assert points.sql("SELECT last_due_at < now() - interval '47 hours' FROM scorebeat.jobs") == [True]
    assert points.sql("SELECT count(*) FROM scorebeat.actions WHERE action = 'tick.skipped'") == [0]
    assert tick(points.producer, job.name) is not None  # by a session that may take longer
    limited.close()


def test_a_close_waits_briefly_for_a_run_whose_predictions_are_locked(points: Points) -> None:
    points.fill(10)
    points.model({})
    job = points.job(rescore="every-run")
    run = points.planned(job)
    points.attempt(points.pending(run)[0])
    points.sql("UPDATE scorebeat.runs SET state = 'running', finished_at = NULL WHERE id = :id", id=run)
    points.sql("UPDATE scorebeat.prediction_sets SET complete_at = NULL WHERE generation = 1")
    points.sql("CREATE OR REPLACE VIEW predictions.points_job AS SELECT * FROM predictions.points_job__poison_v1_g0")

    with locked(points, "predictions.points_job"):
        assert within(3, lambda: settle.settle(points.producer, run)) is None
        assert points.run(run).state is RunState.RUNNING

    assert settle.settle(points.producer, run) is RunState.SUCCEEDED


@pytest.mark.slow(quick=2)
@pytest.mark.parametrize("limit", ["statement_timeout", "transaction_timeout"])
def test_a_plan_that_times_out_three_times_fails_with_the_error_and_what_to_do(points: Points, limit: str) -> None:
    if not points.sql("SELECT count(*) FROM pg_settings WHERE name = :limit", limit=limit)[0]:
        pytest.skip(f"this PostgreSQL has no {limit}")
    run = slowed(points)
    set_for_all(points, f"SET {limit} = '400ms'")
    limited = Producer(points.settings, "limited")

    for _ in range(3):
        with pytest.raises(DBAPIError):
            plan(limited, run)
        points.sql(AGAIN)
        rescue(points.producer)

    assert points.run(run).state is RunState.FAILED
    message = str(points.run(run).reason)
    assert message.startswith("planning failed 3 times without making a batch, the last time by: ")
    assert "canceling statement due to statement timeout" in message or limit == "transaction_timeout"
    assert f"`ALTER ROLE name SET {limit} = '...'`" in message
    limited.close()


@pytest.mark.quick
def test_a_batch_that_times_out_each_time_is_dead_with_the_error_and_what_to_do(points: Points) -> None:
    points.fill(20)
    points.model({})
    run = points.planned(points.job())
    slow_down(points)
    set_for_all(points, "SET statement_timeout = '200ms'")
    points.runtime = Runtime(points.settings, name="limited")

    assert points.work(run) is RunState.FAILED
    ((state, error),) = points.batches(run, "state, error")
    assert state == "dead"
    assert "canceling statement due to statement timeout" in error
    assert "`ALTER ROLE name SET statement_timeout = '...'`" in error


def test_sessions_that_the_server_ends_while_they_are_idle_cost_no_attempt(points: Points) -> None:
    points.fill(20)
    points.model({})
    job = points.job(batch_rows=5)
    run = points.planned(job)
    set_for_all(points, "SET idle_session_timeout = '200ms'")
    points.runtime = Runtime(points.settings, name="limited")

    for batch in points.pending(run):
        points.attempt(batch)
        time.sleep(0.5)  # the time that passes is what is tested

    assert points.errors == []
    assert points.batches(run) == [("committed", 1)] * 4
    assert_accounted(points.engine, job, {})


def test_a_claim_that_expires_keeps_the_error_of_the_attempt_before(points: Points) -> None:
    points.fill(5)
    points.model({})
    run = points.planned(points.job())
    points.sql("UPDATE scorebeat.batches SET error = 'Boom: disk', attempts_left = 2")

    for _ in range(2):
        points.sql(
            "UPDATE scorebeat.batches SET state = 'claimed', sent_at = NULL, claimed_by = 'w9', attempt = attempt + 1,"
            " attempts_left = attempts_left - 1, claim_expires_at = now() - interval '1 s'"
        )
        rescue(points.producer)

    ((state, error),) = points.batches(run, "state, error")
    assert (state, error) == ("dead", "attempt 2 expired: w9 died or lost the database; before that: Boom: disk")


@pytest.mark.quick
def test_a_commit_over_a_read_only_session_is_made_again_over_a_new_one(
    points: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    points.fill(10)
    points.model({})
    job = points.job()
    run = points.planned(job)
    stored = commit.store

    def over_a_read_only_session(a: Attempt, *rest: Any) -> commit.Stored:
        with a.runtime.data.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = on")
        a.runtime.data.commit()
        return stored(a, *rest)

    with monkeypatch.context() as patch:
        patch.setattr("scorebeat.worker.scoring.score.store", over_a_read_only_session)  # it changes after the fetch
        assert score_batch(points.pending(run)[0], points.runtime) is Outcome.POSTPONED

    assert points.batches(run, "state, attempts_left") == [("pending", 5)]
    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_a_pool_drops_the_session_that_took_no_writes(points: Points, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine(points.settings.database(), pool_size=1)
    points.sql("CREATE TABLE notes (n int)")
    with engine.connect() as connection:
        connection.exec_driver_sql("SET default_transaction_read_only = on")
        connection.commit()

    with pytest.raises(DBAPIError) as refused, engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO notes VALUES (1)")  # the session is younger than read_only.OLDEST
    assert refused.value.connection_invalidated
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO notes VALUES (2)")

    monkeypatch.setattr(read_only, "OLDEST", 0.0)
    with engine.connect() as connection:
        connection.exec_driver_sql("SET default_transaction_read_only = on")
        connection.commit()
    with engine.begin() as connection:  # noticed before it is used
        connection.exec_driver_sql("INSERT INTO notes VALUES (3)")
    assert points.sql("SELECT n FROM notes ORDER BY n") == [2, 3]
    engine.dispose()


@pytest.mark.quick
def test_a_query_that_writes_is_still_to_blame_itself(points: Points) -> None:
    points.fill(5)
    points.model({})
    points.sql(
        "CREATE FUNCTION sly() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN DELETE FROM points; RETURN true; END $$"
    )
    in_a_fetch = "CASE WHEN current_setting('application_name') LIKE '% data' THEN sly() ELSE true END"
    run = points.planned(points.job(query=f"SELECT id, x FROM points WHERE {in_a_fetch}"))

    points.attempt(points.pending(run)[0])

    ((state, error),) = points.batches(run, "state, error")
    assert state == "dead"
    assert "query writes, and a query may only read" in error
    assert points.sql("SELECT count(*) FROM points") == [5]


def slowed(points: Points) -> int:
    """A run that is to be planned, over a table that is slow to read by now."""
    points.fill(50)
    points.model({})
    run = enqueue(points.producer, Request(points.job().name, "test")).run_id
    slow_down(points)
    return run


def slow_down(points: Points) -> None:
    """Each row takes 20 ms."""
    points.sql("ALTER TABLE points RENAME TO quick")
    points.sql(
        "CREATE VIEW points AS SELECT id, x + 0 * length(pg_sleep(0.02)::text) AS x, id AS n FROM quick OFFSET 0"
    )


def set_for_all(points: Points, how: str) -> None:
    """For sessions that begin from now on."""
    name = make_url(points.settings.database()).database
    with points.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f'ALTER DATABASE "{name}" {how}'))


def test_a_snapshot_leaves_its_session_to_the_databases_own_read_only_setting(points: Points) -> None:
    engine = points.engine
    with planning_cursor.reading(engine) as reader:
        reader.execute(text("SELECT 1"))
    with engine.connect() as connection:
        connection.execute(text("SET default_transaction_read_only = on"))
        connection.commit()
        writable = connection.execute(text("SELECT current_setting('transaction_read_only')")).scalar_one()
        connection.execute(text("RESET default_transaction_read_only"))
        connection.commit()

    assert writable == "on"
