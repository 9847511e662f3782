"""Errors of a real server that pass by themselves cost a batch or a plan one attempt, never its life."""

from collections.abc import Callable, Iterator

import psycopg2
import pytest
from sqlalchemy import Engine, make_url
from sqlalchemy.exc import DBAPIError

from scorebeat.core.states import RunState
from scorebeat.db.connect import database_errors
from scorebeat.db.connect.engine import make_engine
from scorebeat.db.ledger import plan_lease
from scorebeat.producer.control import plan as planner
from scorebeat.producer.control.plan import plan
from scorebeat.producer.control.upkeep.rescue import rescue
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.worker.scoring.runtime import Runtime
from tests.support.poison_fixtures import Points, assert_accounted, points

__all__ = ["points"]


@pytest.fixture
def full(points: Points) -> Iterator[Engine]:
    """An engine of a role that the server has no connection for."""
    points.sql("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0 PASSWORD 'x'")
    url = make_url(points.settings.database()).set(username="crowded", password="x")
    yield make_engine(url.render_as_string(hide_password=False))
    points.sql("DROP ROLE crowded")


@pytest.fixture
def refused(points: Points) -> Engine:
    """An engine to where no server listens."""
    url = make_url(points.settings.database()).set(host="127.0.0.1", port=1, query={})
    return make_engine(url.render_as_string(hide_password=False))


def connect(engine: Engine) -> Callable[..., None]:
    def fail(*_: object) -> None:
        engine.connect().close()

    return fail


@pytest.mark.parametrize("server", ["full", "refused"])
def test_a_server_that_takes_no_connection_is_trouble_that_passes(request: pytest.FixtureRequest, server: str) -> None:
    with pytest.raises(DBAPIError) as refusal:
        connect(request.getfixturevalue(server))()

    assert isinstance(refusal.value.orig, psycopg2.OperationalError)
    assert refusal.value.orig.pgcode is None  # the driver reports none: else this test shows nothing
    assert database_errors.is_transient(refusal.value)


def test_a_batch_outlives_a_server_that_is_full(points: Points, full: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    points.fill(20)
    points.model({})
    job = points.job()
    run = points.planned(job)

    with monkeypatch.context() as patch:
        patch.setattr(Runtime, "_read_job", connect(full))
        points.attempt(points.pending(run)[0])

    assert points.batches(run, "state, attempts_left") == [("pending", 4)]
    assert "too many connections" in points.errors[0]
    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_a_batch_outlives_a_statement_timeout(points: Points) -> None:
    points.fill(20)
    points.model({})
    job = points.job()
    run = points.planned(job)
    points.sql("ALTER TABLE points RENAME TO quick")
    points.sql(
        "CREATE VIEW points AS SELECT id, x + 0 * length(pg_sleep(nap)::text) AS x"
        " FROM quick, (SELECT 0.02 AS nap) AS slow"
    )
    points.sql("DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET statement_timeout = 50'; END $$")
    points.runtime = Runtime(points.settings, name="limited")

    points.attempt(points.pending(run)[0])

    assert points.batches(run, "state, attempts_left") == [("pending", 4)]
    points.sql("CREATE OR REPLACE VIEW points AS SELECT id, x FROM quick")
    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_a_plan_outlives_a_server_that_is_full(points: Points, full: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    points.fill(20)
    points.model({})
    job = points.job()
    run = enqueue(points.producer, Request(job.name, "test")).run_id
    with monkeypatch.context() as patch:
        patch.setattr(planner, "_begin", connect(full))
        with pytest.raises(DBAPIError):
            plan(points.producer, run)

    assert points.run(run).state is RunState.PLANNING
    points.sql("UPDATE scorebeat.runs SET plan_expires_at = now() - interval '1 s'")
    assert rescue(points.producer) == 1
    plan(points.producer, run)
    assert points.work(run) is RunState.SUCCEEDED


def test_a_plan_message_that_comes_again_does_not_number_batches_twice(
    points: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    points.fill(60)
    points.model({})
    job = points.job(batch_rows=20)
    run = enqueue(points.producer, Request(job.name, "test")).run_id
    with monkeypatch.context() as patch:
        patch.setattr(planner, "dispatch", _die)
        with pytest.raises(KeyboardInterrupt):
            plan(points.producer, run)
    points.sql("UPDATE scorebeat.runs SET plan_expires_at = now() - interval '1 s'")

    result = plan(points.producer, run)  # the broker restored the message; the control tick was not here yet

    assert (result, points.run(run).state) == (None, RunState.PLANNING)
    assert points.batches(run, "number, state") == [(1, "pending")]
    assert points.run(run).plan_attempt < plan_lease.MAX_PLANS
    assert rescue(points.producer) == 1
    assert points.work(run) in (RunState.SUCCEEDED, RunState.PARTIAL)
    points.scored(job)
    assert_accounted(points.engine, job, {})


def _die(*_: object) -> None:
    raise KeyboardInterrupt
