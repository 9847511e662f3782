"""Every command on real servers: what it does, what it prints, how it ends."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from scorebeat.core.settings import Settings
from scorebeat.db.ledger import batches, runs
from scorebeat.db.processes import workers
from scorebeat.ops.cli.app import cli
from scorebeat.producer.context import Producer
from scorebeat.producer.control.notices import notify, unserved
from tests.support.cli_fixtures import ROWS, Cli, refused, score_all, scoring

pytestmark = pytest.mark.wide(quick=10)

COMMANDS = [*cli.list_commands(None)]  # type: ignore[arg-type]  # our list needs no context


def query_value(engine: Engine, sql: str) -> object:
    with engine.connect() as connection:
        return connection.execute(text(sql)).scalar_one()


@pytest.mark.parametrize("command", [["--help"], *([name, "--help"] for name in COMMANDS), ["models", "add", "--help"]])
def test_every_command_has_help_with_an_example(scorebeat: Cli, command: list[str]) -> None:
    result = scorebeat(*command)

    assert result.exit_code == 0
    example = re.search(r"Example:\n\s+scorebeat (\w+)", result.output)
    assert example is not None
    assert command == ["--help"] or example.group(1) == command[0]


def test_enqueue_wait_scores_every_row_and_a_second_run_finds_nothing(
    scorebeat: Cli, job: str, producer: Producer, engine: Engine
) -> None:
    with scoring(producer):
        first, second = (scorebeat("enqueue", job, "--wait") for _ in range(2))

    assert first.exit_code == 0
    assert "run 1 succeeded\n100 rows scored" in first.output
    assert second.exit_code == 0
    assert "nothing is pending" in second.output
    wrong = "SELECT count(*) FROM pairs LEFT JOIN predictions.sums p USING (id) WHERE abs(p.total - a - b) < 1e-9"
    assert query_value(engine, wrong) == ROWS


def test_runs_json_has_the_promised_names_and_iso_times(scorebeat: Cli, job: str, producer: Producer) -> None:
    scorebeat("enqueue", job)
    score_all(producer, 1)

    (run,) = json.loads(scorebeat("runs", "--json").stdout)

    expected = {"id": 1, "job": "sums", "model": "adder", "model_version": 1, "state": "succeeded"}
    expected |= {"rows_planned": ROWS, "rows_scored": ROWS, "rows_failed": 0}
    assert run.items() >= expected.items()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00", run["created_at"])


def test_plan_shows_what_a_run_would_do_and_changes_nothing(scorebeat: Cli, job: str, producer: Producer) -> None:
    first = json.loads(scorebeat("plan", job, "--json").stdout)
    scorebeat("enqueue", job, "--limit", "60")
    score_all(producer, 1)
    notify.note_ends(producer)
    second = json.loads(scorebeat("plan", job, "--json").stdout)

    assert (first["rows"], first["batches"], first["takes"], first["open_run"]) == (100, 3, None, None)
    assert first["no_forecast"] == "no run of job sums has scored rows on queue 'cpu' yet"
    assert (second["rows"], second["batches"]) == (40, 1)
    assert 0 < second["takes_least"] <= second["takes"] <= second["takes_most"]
    assert second["no_forecast"] is None
    assert len(json.loads(scorebeat("runs", "--json").stdout)) == 1


def test_a_second_enqueue_names_the_run_that_is_open(scorebeat: Cli, job: str) -> None:
    assert scorebeat("enqueue", job).exit_code == 0

    again = scorebeat("enqueue", job)

    assert again.exit_code == 2
    assert "run 1 is planning" in again.stderr


def test_a_repeated_run_key_returns_the_run_that_it_made(scorebeat: Cli, job: str) -> None:
    outputs = [scorebeat("enqueue", job, "--run-key", "night") for _ in range(2)]

    assert [o.exit_code for o in outputs] == [0, 0]
    assert "run 1 of job sums was enqueued before" in outputs[1].output


@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_a_blank_run_key_is_refused(scorebeat: Cli, job: str, blank: str) -> None:
    refused(scorebeat("enqueue", job, "--run-key", blank), "run key is blank", "Nothing was enqueued")

    assert json.loads(scorebeat("runs", "--json").stdout) == []


def test_enqueue_reports_that_nobody_will_plan_and_score(scorebeat: Cli, job: str, engine: Engine) -> None:
    alone = scorebeat("enqueue", job)
    notes = [scorebeat(*command).stderr for command in (("runs",), ("show", "1"))]
    with engine.begin() as connection:
        workers.seen(connection, "all", ["control", "plan", "cpu"], "cpu", 1)
    scorebeat("cancel", "1")

    assert "no control worker" in alone.stderr
    assert notes == [alone.stderr] * 2
    assert "no worker listens on queue 'cpu': start `scorebeat worker --device cpu --queue cpu`" in alone.stderr
    assert "`scorebeat worker --device cuda:0 --queue gpu-big`" in unserved.no_worker("gpu-big")
    assert scorebeat("enqueue", job).stderr == ""


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        (["--limit", "7"], 7),
        (["--where", "id <= 10 -- the first"], 10),
        (["--where", "id in (select 3)"], 1),
        (["--where", "a % 2 = 0"], None),
        (["--keys", "keys.csv"], 3),
        (["--model", "adder/1"], ROWS),
        (["--model", "1", "--limit", "1"], 1),
    ],
)
def test_enqueue_scores_what_its_options_choose(
    scorebeat: Cli, job: str, producer: Producer, options: list[str], rows: int | None
) -> None:
    Path("keys.csv").write_text('5\n\n"70"\n005\n99\n100000\n')
    result = scorebeat("enqueue", job, *options)
    if rows is None:  # float8 has no %: PostgreSQL's own reason is shown
        assert result.exit_code == 2
        assert "operator does not exist" in result.stderr
        return
    score_all(producer, 1)

    assert result.exit_code == 0
    (run,) = json.loads(scorebeat("runs", "--json").stdout)
    assert (run["state"], run["rows_scored"]) == ("succeeded", rows)


def test_the_keys_of_a_batch_are_those_that_it_scored_and_can_be_enqueued_again(
    scorebeat: Cli, job: str, producer: Producer, engine: Engine
) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM pairs WHERE id = 60")
    scorebeat("enqueue", job)
    score_all(producer, 1)
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO pairs VALUES (60, 0, 0)")
    batch = str(json.loads(scorebeat("show", "1", "--json").stdout)["batches"][1]["id"])
    expected = [str(i) for i in range(41, 82) if i != 60]

    keys = scorebeat("show", "1", "--batch", batch, "--keys").stdout
    Path("keys.csv").write_text(keys)

    assert keys.split() == expected
    assert json.loads(scorebeat("show", "1", "--batch", batch, "--json").stdout)["keys"] == [[k] for k in expected]
    assert "range of keys\nfrom             41\n" in scorebeat("show", "1", "--batch", batch).stdout
    assert scorebeat("enqueue", job, "--keys", "keys.csv").exit_code == 0


def test_a_key_with_a_carriage_return_is_printed_so_that_it_is_read_back_as_one(
    scorebeat: Cli, job: str, engine: Engine, settings: Settings, producer: Producer
) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE returns (id text PRIMARY KEY, a float8, b float8)")
        connection.execute(text("INSERT INTO returns VALUES (:odd, 1, 1), ('a', 2, 2), ('b', 3, 3)"), {"odd": "a\rb"})
    settings.jobs.write_text(
        settings.jobs.read_text().replace(f"[jobs.{job}]", "[jobs.returns]").replace("pairs", "returns")
    )
    assert scorebeat("apply").exit_code == 0
    scorebeat("enqueue", "returns", "--limit", "2")
    score_all(producer, 1)

    keys = scorebeat("show", "1", "--batch", "1", "--keys").stdout

    assert [tuple(row) for row in csv.reader(io.StringIO(keys, newline=""))] == [("a",), ("a\rb",)]


def test_a_cancelled_run_ends_watch_with_1_and_keeps_its_rows_pending(scorebeat: Cli, job: str) -> None:
    scorebeat("enqueue", job)
    assert scorebeat("cancel", "1").output == "run 1 is cancelled\n"
    assert "over already" in scorebeat("cancel", "1").output

    watched = scorebeat("watch", "1")

    assert watched.exit_code == 1
    assert "run 1 cancelled: cancelled by" in watched.output
    assert json.loads(scorebeat("plan", job, "--json").stdout)["rows"] == ROWS


def test_failures_are_grouped_and_requeue_puts_them_back(scorebeat: Cli, job: str, producer: Producer) -> None:
    file = next(Path(producer.settings.artifacts).glob("adder/1/*.skops"))
    good = file.read_bytes()
    file.write_bytes(good + b"altered")
    scorebeat("enqueue", job)
    score_all(producer, 1)
    (dead,) = json.loads(scorebeat("failures", "1", "--json").stdout)
    file.write_bytes(good)

    assert scorebeat("watch", "1").exit_code == 1
    assert (dead["kind"], dead["count"], dead["rows"]) == ("dead batches", 3, ROWS)
    assert "digest" in dead["error"]
    assert "nothing that failed" in scorebeat("requeue", "1", "--error", "something else").output
    assert scorebeat("requeue", "1", "--batch", "1").output.startswith("1 batch of run 1 put back")
    assert scorebeat("requeue", "1", "--error", "digest").output.startswith("2 batches of run 1 put back")
    score_all(producer, 1)
    assert scorebeat("watch", "1").exit_code == 0
    assert "no batch is dead" in scorebeat("failures").output


def test_pause_and_resume_show_who_and_why(scorebeat: Cli, job: str) -> None:
    assert "is paused" in scorebeat("pause", job, "--reason", "a rebuild").output
    assert "a rebuild" in scorebeat("pause", job).output
    assert scorebeat("resume", job).output == "job sums is resumed\n"
    assert "was not paused" in scorebeat("resume", job).output


def test_runs_warn_of_a_queue_that_nobody_serves_only_while_it_matters(
    scorebeat: Cli, job: str, producer: Producer
) -> None:
    scorebeat("enqueue", job)

    assert "queue 'cpu'" in scorebeat("runs").stderr
    score_all(producer, 1)
    assert scorebeat("runs").stderr == ""


def test_a_failed_run_shows_its_reason(scorebeat: Cli, job: str, engine: Engine) -> None:
    scorebeat("enqueue", job)
    with engine.begin() as connection:
        runs.fail(connection, 1, "the disk\x1b[31m is full")
        batches.cancel(connection, 1)

    shown = scorebeat("runs").output

    assert "the disk" in shown
    assert "\x1b" not in shown
