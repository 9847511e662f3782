"""The text of a person or a query goes into reasons, notices, the log and commands at a length that people read."""

import logging
import shlex
from datetime import UTC, datetime

import pytest

from scorebeat.core.errors import LONGEST, UsageError
from scorebeat.core.jobs.parameters import Parameter
from scorebeat.db.records import notices
from scorebeat.db.records.notices import Notice
from scorebeat.db.reports.pages import job_lines
from scorebeat.producer.control.notices.notify import body
from scorebeat.producer.control.plan import plan
from scorebeat.producer.control.upkeep.rescue import rescue
from scorebeat.producer.requests.enqueue import Request, enqueue
from tests.support.cli_fixtures import Cli, refused, scorebeat
from tests.support.poison_fixtures import Points, points
from tests.support.receiver import logged_events

__all__ = ["points", "scorebeat"]

LONG = "ä " * 50_000
SPENT = "UPDATE scorebeat.runs SET plan_attempt = 3, plan_expires_at = now() - interval '1 s', planned_by = 'p'"
READABLE = LONGEST + 500
"""An error, and a command behind it."""


def test_a_long_parameter_is_in_no_reason_and_its_command_repeats_the_run(
    points: Points, scorebeat: Cli, caplog: pytest.LogCaptureFixture
) -> None:
    points.fill(3)
    points.model({})
    words = {"word": Parameter.of("usual")}
    job = points.job(query="SELECT id, x FROM points WHERE :word <> ''", parameters=words)
    failed = enqueue(points.producer, Request(job.name, "test", parameters={"word": LONG})).run_id
    points.sql(SPENT)

    with caplog.at_level(logging.INFO, "scorebeat"):
        rescue(points.producer)

    reason = str(points.run(failed).reason)
    posted = body(Notice(1, failed, job.name, "failed", datetime.now(UTC), None, 1), _status(points, failed))
    logged = [str(event["reason"]) for event in logged_events(caplog, "run.failed")]
    listed = scorebeat("runs").output
    assert max(map(len, [reason, listed, *logged])) < READABLE
    assert len(posted) < 2 * READABLE  # a text and a reason

    program, *command = shlex.split(reason.partition("`")[2].rpartition("`")[0])
    assert program == "scorebeat"
    assert scorebeat(*command).exit_code == 0
    assert points.run(failed + 1).job.parameters == {"word": Parameter.of(LONG)}


def test_a_reason_has_the_beginning_and_the_end_of_a_querys_error(points: Points) -> None:
    points.fill(3)
    points.model({})
    points.sql(
        "CREATE FUNCTION loud() RETURNS float8 STABLE LANGUAGE plpgsql AS $$ BEGIN"
        " IF EXISTS (SELECT FROM points WHERE id = 0) THEN"
        f" RAISE EXCEPTION USING MESSAGE = 'first ' || repeat('x', {len(LONG)}) || ' last'; END IF; RETURN 1; END $$"
    )
    job = points.job(query="SELECT id, loud() AS x FROM points WHERE loud() > 0")
    run = enqueue(points.producer, Request(job.name, "test")).run_id
    points.sql("UPDATE points SET id = 0 WHERE id = 1")

    plan(points.producer, run)

    reason = str(points.run(run).reason)
    assert len(reason) < READABLE
    assert "first xxx" in reason
    assert "xxx last" in reason
    assert reason.endswith(f"`scorebeat enqueue {job.name}` scores its rows by another run")


def test_a_text_that_is_too_long_to_be_shown_is_refused_with_the_bound(points: Points, scorebeat: Cli) -> None:
    points.fill(3)
    points.model({})
    job = points.job()

    refused(scorebeat("pause", job.name, "--reason", "a" * 1_001), "1,001 characters", "at most 1,000")
    refused(scorebeat("enqueue", job.name, "--run-key", "a" * 201), "201 characters", "at most 200")
    with points.engine.connect() as connection:
        (line,) = job_lines.listing(connection)
    assert line.paused_at is None
    assert scorebeat("pause", job.name, "--reason", "a" * 1_000).exit_code == 0


def test_a_value_that_does_not_fit_is_shown_by_its_beginning(points: Points) -> None:
    points.fill(3)
    points.model({})
    job = points.job(query="SELECT id, x FROM points WHERE id > :least", parameters={"least": Parameter.of(0)})

    with pytest.raises(UsageError, match="expected a value of type integer") as error:
        enqueue(points.producer, Request(job.name, "test", parameters={"least": LONG}))

    assert len(str(error.value)) < 300


def test_a_user_is_named_shortly(points: Points, scorebeat: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    points.fill(3)
    points.model({})
    job = points.job()
    monkeypatch.setenv("LOGNAME", "a" * 10_000)

    assert scorebeat("pause", job.name).exit_code == 0

    assert len(scorebeat("jobs").output) < READABLE


def _status(points: Points, run_id: int) -> dict[str, object]:
    with points.engine.connect() as connection:
        return notices.run_status(connection, run_id) | {"notes": []}
