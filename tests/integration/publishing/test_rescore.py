"""A changed query: how many predictions come from the old one is reported, and every row can be scored anew."""

import json

import pytest
from sqlalchemy import Engine, text

from scorebeat.core.settings import Settings
from scorebeat.producer.context import Producer
from scorebeat.producer.requests.requeue import cancel
from tests.support.cli_fixtures import JOB, ROWS, Cli, refused, score_all

pytestmark = pytest.mark.wide

CHANGED = JOB.replace("a, b FROM", "a, a AS b FROM")
OLD = "SELECT count(*) FROM predictions.sums WHERE abs(total - 3 * id) < 0.001"
NEW = "SELECT count(*) FROM predictions.sums WHERE abs(total - 2 * id) < 0.001"


def count(engine: Engine, statement: str) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text(statement)).scalar_one())


@pytest.fixture
def scored(scorebeat: Cli, job: str, producer: Producer, settings: Settings) -> str:
    """The job with all predictions of its first query, and another query in the file."""
    scorebeat("enqueue", job)
    score_all(producer, 1)
    settings.jobs.write_text(CHANGED)
    return job


def test_a_changed_query_is_reported_with_its_old_predictions_and_all_are_rescored(
    scorebeat: Cli, scored: str, producer: Producer, engine: Engine
) -> None:
    dry, applied = scorebeat("apply", "--dry-run").output, scorebeat("apply").output
    planned = scorebeat("plan", scored).output

    for output in (dry, applied):
        assert f"jobs.sums: {ROWS} predictions come from the query that it had before, and stay" in output
        assert "`scorebeat enqueue sums --rescore`" in output
    assert "nothing is pending" in planned
    assert f"{ROWS} predictions come from another query and stay as they are" in planned
    assert scorebeat("enqueue", scored, "--rescore").output.startswith("run 2 of job sums is enqueued")
    assert count(engine, OLD) == ROWS  # readers see nothing of it yet
    score_all(producer, 2)

    assert (count(engine, OLD), count(engine, NEW)) == (0, ROWS)
    assert "another query" not in scorebeat("plan", scored).output
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO pairs VALUES (1001, 1001, 0)"))
    scorebeat("enqueue", scored)
    score_all(producer, 3)  # the job goes on as before, beside what was scored anew
    assert count(engine, NEW) == ROWS + 1


def test_apply_rescores_at_once_when_it_is_requested(
    scorebeat: Cli, scored: str, producer: Producer, engine: Engine
) -> None:
    done = scorebeat("apply", "--rescore")

    assert "run 2 of job sums is enqueued, and scores every row anew" in done.output
    score_all(producer, 2)
    assert count(engine, NEW) == ROWS
    assert json.loads(scorebeat("plan", scored, "--json").stdout)["from_other_queries"] == 0


def test_readers_keep_the_old_predictions_when_scoring_anew_comes_to_nothing(
    scorebeat: Cli, scored: str, producer: Producer, engine: Engine
) -> None:
    scorebeat("apply")
    scorebeat("enqueue", scored, "--rescore")
    refused(scorebeat("enqueue", scored, "--rescore"), "has an open run already")
    cancel(producer, 2, "ann")

    assert scorebeat("plan", scored).output.count("nothing is pending") == 1
    scorebeat("enqueue", scored)
    score_all(producer, 3)
    assert count(engine, OLD) == ROWS


def test_some_rows_anew_are_refused(scorebeat: Cli, scored: str) -> None:
    refused(scorebeat("enqueue", scored, "--rescore", "--limit", "5"), "rows are scored anew all together")


def test_a_query_that_changes_before_scoring_or_with_every_run_is_not_reported(
    scorebeat: Cli, job: str, producer: Producer, settings: Settings
) -> None:
    settings.jobs.write_text(CHANGED)
    assert scorebeat("apply").output == f"changed job {job}\n"
    scorebeat("enqueue", job)
    score_all(producer, 1)
    settings.jobs.write_text(JOB + 'rescore = "every-run"\n')
    assert scorebeat("apply").output == f"changed job {job}\n"


def test_scoring_anew_from_an_empty_table_takes_nothing_from_readers(
    scorebeat: Cli, scored: str, producer: Producer, engine: Engine
) -> None:
    scorebeat("apply")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE kept AS SELECT * FROM pairs"))
        connection.execute(text("DELETE FROM pairs"))
    scorebeat("enqueue", scored, "--rescore")
    score_all(producer, 2)

    listed = scorebeat("runs").output
    assert "the query gave no row" in listed
    assert "`scorebeat enqueue sums --rescore`" in listed
    assert count(engine, OLD) == ROWS
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO pairs SELECT * FROM kept"))
    scorebeat("enqueue", scored, "--rescore")  # the command that the reason names
    score_all(producer, 3)
    assert (count(engine, OLD), count(engine, NEW)) == (0, ROWS)
