"""Setting up from the command line: migrations, jobs, models, workers, and the check of it all."""

import json
import os
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from scorebeat.core.settings import Settings
from scorebeat.producer.context import Producer
from tests.support.cli_fixtures import JOB, ROWS, Cli, score_all, write_adder


def query_value(engine: Engine, sql: str) -> object:
    with engine.connect() as connection:
        return connection.execute(text(sql)).scalar_one()


def test_migrate_makes_a_ledger_and_may_be_repeated(
    scorebeat: Cli, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCOREBEAT_DATABASE_URL", empty_database)
    before = scorebeat("runs")

    assert [scorebeat("migrate").output for _ in range(2)] == [
        "the ledger was migrated\n",
        "the ledger is up to date\n",
    ]
    assert before.exit_code == 2
    assert "run `scorebeat migrate`" in before.stderr
    assert "there are no runs yet" in scorebeat("runs").output


@pytest.mark.slow
def test_publish_and_rollback_switch_the_view_and_the_next_run(
    scorebeat: Cli, job: str, producer: Producer, engine: Engine, tmp_path: Path
) -> None:
    twice = write_adder(tmp_path / "twice.skops", "a", "b", slope=2.0)
    added = scorebeat("models", "add", str(twice), "--name", "adder", "--outputs", "total")
    for run_id, model in enumerate(("1", "2"), start=1):
        scorebeat("enqueue", job, "--model", model)
        score_all(producer, run_id)

    shown = "SELECT round(total) FROM predictions.sums WHERE id = 10"
    assert "model adder/2 added (digest" in added.output
    assert query_value(engine, shown) == 30
    assert scorebeat("publish", "adder/2").output == "model adder/2 is published; jobs that show it: sums\n"
    assert query_value(engine, shown) == 60
    listed = json.loads(scorebeat("models", "list", "--json").stdout)
    assert [(v["model"], v["rows_scored"], v["published_at"] is None) for v in listed] == [
        ("adder/1", ROWS, True),
        ("adder/2", ROWS, False),
    ]
    assert scorebeat("rollback", "adder").exit_code == 0
    assert query_value(engine, shown) == 30


@pytest.mark.usefixtures("job")
def test_a_model_added_twice_is_one_version(scorebeat: Cli, adder: Path) -> None:
    again = scorebeat("models", "add", str(adder), "--name", "adder", "--outputs", "total")

    assert again.exit_code == 0
    assert "model adder/1 is there already" in again.output
    assert len(json.loads(scorebeat("models", "list", "--json").stdout)) == 1


@pytest.mark.usefixtures("pairs")
def test_apply_reports_changes_and_stores_a_job_whose_model_is_to_come(
    scorebeat: Cli, adder: Path, settings: Settings, engine: Engine
) -> None:
    settings.jobs.write_text(JOB)
    added, same = scorebeat("apply"), scorebeat("apply")
    scorebeat("models", "add", str(adder), "--name", "adder", "--outputs", "total")
    settings.jobs.write_text(JOB.replace("40", "50"))
    changed = scorebeat("apply")
    view = query_value(engine, "SELECT to_regclass('predictions.sums')::text")
    settings.jobs.write_text(JOB.replace("sums", "others"))

    assert added.output.startswith("added job sums\nnote: jobs.sums: model 'adder' has no version yet")
    assert same.output.startswith("nothing changed: 1 job as before")
    assert changed.output == "changed job sums\n"
    assert view == "predictions.sums"
    assert scorebeat("apply", "--prune").output == "added job others\nremoved job sums\n"


@pytest.mark.usefixtures("job")
def test_check_finds_everything_in_order_and_what_is_not(scorebeat: Cli, producer: Producer) -> None:
    good = scorebeat("check")
    file = next(Path(producer.settings.artifacts).glob("adder/1/*.skops"))
    file.write_bytes(b"altered")
    bad = scorebeat("check", "--json")

    assert good.exit_code == 0
    assert "ok       job sums: the query gives what model adder/1 wants" in good.output
    assert "warning  queue cpu: no worker listens" in good.output
    assert "problem" not in good.output
    assert bad.exit_code == 2
    assert [f["subject"] for f in json.loads(bad.stdout) if f["verdict"] == "problem"] == ["model adder/1"]


@pytest.mark.parametrize(
    ("options", "ending"),
    [
        (["--device", "cpu"], ["-Q", "cpu", "-n", f"cpu-{os.getpid()}@%h", "-c", str(len(os.sched_getaffinity(0)))]),
        (["--device", "cpu", "--queue", "a", "--queue", "b", "--processes", "3"], ["-Q", "a,b"]),
    ],
)
def test_worker_becomes_a_celery_worker_with_the_urls_in_its_environment(
    scorebeat: Cli, settings: Settings, monkeypatch: pytest.MonkeyPatch, options: list[str], ending: list[str]
) -> None:
    became: list[object] = []
    monkeypatch.setattr(os, "execve", lambda *arguments: became.extend(arguments))

    assert scorebeat("worker", *options).exit_code == 0
    _program, command, env = became
    assert isinstance(command, tuple)
    assert isinstance(env, dict)
    at = command.index("-Q")
    assert list(command[at : at + len(ending)]) == ending
    assert env["SCOREBEAT_DATABASE_URL"] == settings.database_url
    assert str(settings.database_url) not in " ".join(command)
