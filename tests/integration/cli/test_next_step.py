"""The reason of a run that failed or left rows out names one command, and that command scores the rows."""

import logging
import re
import shlex
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from scorebeat.core.errors import RepeatedKey, UsageError
from scorebeat.core.jobs.job import Job
from scorebeat.core.jobs.parameters import Parameter
from scorebeat.core.states import RunState
from scorebeat.db.ledger import batches
from scorebeat.producer.control.plan import plan
from scorebeat.producer.control.upkeep.rescue import rescue
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.producer.requests.requeue import requeue
from scorebeat.worker.scoring.recover import record_failure
from tests.support.cli_fixtures import Cli, scorebeat
from tests.support.poison_fixtures import Points, assert_accounted, points
from tests.support.receiver import logged_events

__all__ = ["points", "scorebeat"]

COMMAND = re.compile(r"`scorebeat (enqueue|requeue) (\w+)`")


def all_dead(points: Points) -> tuple[Job, int]:
    points.model({"nan": range(1, 51)})
    job = points.job(batch_rows=25)
    run = points.scored(job)
    points.mend()
    return job, run


def the_query_fails_in_the_plan(points: Points) -> tuple[Job, int]:
    points.model({})
    job = points.job()
    run = enqueue(points.producer, Request(job.name, "test")).run_id
    points.sql("ALTER TABLE points RENAME COLUMN x TO width")
    plan(points.producer, run)
    points.sql("ALTER TABLE points RENAME COLUMN width TO x")
    return job, run


def the_plan_died_each_time(points: Points) -> tuple[Job, int]:
    points.model({})
    job = points.job()
    run = enqueue(points.producer, Request(job.name, "test")).run_id
    points.sql("UPDATE scorebeat.runs SET plan_attempt = 3, plan_expires_at = now() - interval '1 s', planned_by = 'p'")
    rescue(points.producer)
    return job, run


def shown_whole_or_not_at_all(points: Points) -> tuple[Job, int]:
    points.model({"raise": [5]})
    job = points.job(batch_rows=25, on_failure="retry-run", run_attempts=1)
    run = points.scored(job)
    points.mend()
    return job, run


@pytest.mark.slow(quick=2)
@pytest.mark.parametrize(
    "fails", [all_dead, the_query_fails_in_the_plan, the_plan_died_each_time, shown_whole_or_not_at_all]
)
def test_the_command_that_a_reason_names_scores_the_rows(
    points: Points, fails: Callable[[Points], tuple[Job, int]]
) -> None:
    points.fill(50)
    job, run = fails(points)

    ((verb, name),) = COMMAND.findall(str(points.run(run).reason))
    if verb == "requeue":
        assert requeue(points.producer, int(name), "ann") > 0
    else:
        run = enqueue(points.producer, Request(name, "ann")).run_id
        plan(points.producer, run)

    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


@pytest.mark.parametrize("fails", [the_query_fails_in_the_plan, the_plan_died_each_time])
def test_a_requeue_of_a_run_without_batches_names_the_command_to_type(
    points: Points, fails: Callable[[Points], tuple[Job, int]]
) -> None:
    points.fill(50)
    job, run = fails(points)

    with pytest.raises(UsageError, match=f"`scorebeat enqueue {job.name}`"):
        requeue(points.producer, run, "ann")


def test_the_command_for_a_run_of_a_due_time_names_the_time(points: Points) -> None:
    points.fill(50)
    points.model({})
    job = points.job(query="SELECT id, x FROM points WHERE x < extract(day FROM :due_at)")
    due_at = datetime(2025, 3, 21, 12, tzinfo=UTC)
    failed = enqueue(points.producer, Request(job.name, "test", due_at=due_at)).run_id
    points.sql("UPDATE scorebeat.runs SET plan_attempt = 3, plan_expires_at = now() - interval '1 s', planned_by = 'p'")
    rescue(points.producer)

    command = f"`scorebeat enqueue {job.name} --due-at {due_at.isoformat()}`"
    assert str(points.run(failed).reason).endswith(f"{command} scores its rows by another run")
    with pytest.raises(UsageError, match=re.escape(command)):
        requeue(points.producer, failed, "ann")


def test_the_command_for_a_run_with_values_of_its_own_makes_a_run_with_the_same(points: Points, scorebeat: Cli) -> None:
    points.fill(50)
    points.model({})
    parameters = {"least": Parameter.of(2), "word": Parameter.of("usual")}
    job = points.job(query="SELECT id, x FROM points WHERE id > :least AND :word <> ''", parameters=parameters)
    values = {"least": "-5", "word": "it's `x`; $HOME \\"}
    failed = enqueue(points.producer, Request(job.name, "test", parameters=values)).run_id
    points.sql("UPDATE scorebeat.runs SET plan_attempt = 3, plan_expires_at = now() - interval '1 s', planned_by = 'p'")
    rescue(points.producer)
    program, *words = shlex.split(str(points.run(failed).reason).partition("`")[2].rpartition("`")[0])

    assert program == "scorebeat"
    assert scorebeat(*words).exit_code == 0
    again = points.run(failed + 1)
    assert again.job.parameters == points.run(failed).job.parameters
    assert {name: value.text for name, value in again.job.parameters.items()} == values


def test_a_run_that_fails_by_a_repeated_key_is_an_error_in_the_log(
    points: Points, caplog: pytest.LogCaptureFixture
) -> None:
    points.fill(50)
    points.model({})
    run = points.planned(points.job())
    (batch,) = points.pending(run)
    with points.engine.begin() as connection:
        held = batches.claim(connection, batch, "w", points.settings.claim_ttl, "cpu", 1)
    assert held is not None

    with caplog.at_level(logging.INFO, "scorebeat"):
        record_failure(points.runtime, held, RepeatedKey("key 21 is given twice."))

    reason = f"key 21 is given twice. `scorebeat requeue {run}` puts back what it left out"
    assert points.run(run).reason == reason
    assert [r.levelname for r in caplog.records if r.__dict__.get("scorebeat_event") == "run.failed"] == ["ERROR"]
    assert [event["reason"] for event in logged_events(caplog, "run.failed")] == [reason]


def test_the_end_of_a_run_is_in_the_log_with_its_job_and_reason(
    points: Points, caplog: pytest.LogCaptureFixture
) -> None:
    points.fill(50)
    with caplog.at_level(logging.INFO, "scorebeat"):
        job, run = all_dead(points)

    (event,) = logged_events(caplog, "run.finished")
    assert (event["run"], event["job"], event["state"]) == (run, job.name, "failed")
    assert event["reason"] == points.run(run).reason
