"""`scorebeat jobs` and `GET /jobs`: one line a job, with when it is due, how it ended and why it was left out."""

import json
from datetime import UTC, datetime

from sqlalchemy import Engine, text

from scorebeat.core.settings import Settings
from scorebeat.db.ledger import jobs
from scorebeat.producer.context import Producer
from scorebeat.producer.control.ticks.tick import tick
from tests.support.cli_fixtures import JOB, Cli, score_all

SCHEDULED = f'{JOB}schedule = "0 2 * * *"\ntimezone = "Europe/Berlin"\n'


def scheduled(scorebeat: Cli, settings: Settings) -> None:
    settings.jobs.write_text(SCHEDULED)
    assert scorebeat("apply").exit_code == 0


def test_a_job_is_one_line_with_its_next_due_time_last_success_and_last_skip(
    scorebeat: Cli, job: str, settings: Settings, producer: Producer, engine: Engine
) -> None:
    scheduled(scorebeat, settings)
    scorebeat("enqueue", job)
    score_all(producer, 1)
    with engine.begin() as connection:
        jobs.pause(connection, job, "ann", "the table is being rebuilt")
        connection.execute(text("UPDATE scorebeat.jobs SET last_due_at = now() - interval '2 days'"))
    tick(producer, job)

    shown = scorebeat("jobs")
    head, line = shown.stdout.splitlines()
    (found,) = json.loads(scorebeat("jobs", "--json").stdout)

    assert head.split("  ")[0] == "job"
    assert "0 2 * * * Europe/Berlin" in line
    assert " h" in line or " min" in line
    assert "run 1 succeeded" in line
    assert "paused by ann: the table is being rebuilt" in line
    assert line.rstrip().endswith("adder/1")
    due = datetime.fromisoformat(found["next_due_at"])
    assert due > datetime.now(UTC)
    assert (found["name"], found["last_state"], found["is_overdue"]) == (job, "succeeded", False)
    assert (found["last_run"], found["last_reason"], found["paused_by"]) == (1, None, "ann")
    assert found["last_success_at"] == found["last_end_at"]


def test_a_job_by_hand_and_no_job_at_all_have_their_words(scorebeat: Cli, job: str, settings: Settings) -> None:
    assert "by hand" in scorebeat("jobs").stdout
    (line,) = json.loads(scorebeat("jobs", "--json").stdout)
    assert (line["name"], line["next_due_at"], line["needed_by"], line["last_run"]) == (job, None, None, None)

    settings.jobs.write_text("")
    assert scorebeat("apply", "--remove-all").exit_code == 0

    assert "there are no jobs yet" in scorebeat("jobs").stdout
    assert json.loads(scorebeat("jobs", "--json").stdout) == []


def test_a_job_whose_results_are_overdue_is_noted(scorebeat: Cli, job: str, settings: Settings, engine: Engine) -> None:
    scheduled(scorebeat, settings)
    with engine.begin() as connection:
        connection.execute(text("UPDATE scorebeat.jobs SET applied_at = now() - interval '3 days'"))

    result = scorebeat("jobs")

    assert f"note: job {job}: no success yet, and results were needed by " in result.stderr


def test_nobody_who_would_begin_a_run_is_noted_where_a_job_is_to_be_due(
    scorebeat: Cli, job: str, settings: Settings
) -> None:
    by_hand = scorebeat("jobs")
    assert (job in by_hand.stdout, by_hand.stderr) == (True, "")

    scheduled(scorebeat, settings)

    assert "note: no control worker, so runs are neither planned nor settled" in scorebeat("jobs").stderr
