"""Jobs and models are dropped and renamed by name, after a warning of what readers lose by it."""

import json
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from scorebeat.core.settings import Settings
from scorebeat.models.store import store
from scorebeat.producer.context import Producer
from scorebeat.producer.requests.enqueue import Request, enqueue
from tests.support.cli_fixtures import JOB, ROWS, Cli, refused, score_all

pytestmark = pytest.mark.wide

SETS = "SELECT job, table_name FROM scorebeat.prediction_sets WHERE dropped_at IS NULL ORDER BY id"


def query(engine: Engine, statement: str) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def relations(engine: Engine) -> set[str]:
    found = query(engine, "SELECT relname FROM pg_class WHERE relnamespace = 'predictions'::regnamespace"
                          " AND relkind IN ('r', 'v')")  # fmt: skip
    return {str(name) for (name,) in found}


@pytest.fixture
def scored(scorebeat: Cli, job: str, producer: Producer) -> str:
    scorebeat("enqueue", job)
    score_all(producer, 1)
    return job


def test_a_job_is_dropped_after_a_warning_to_its_readers_and_can_come_back(
    scorebeat: Cli, scored: str, engine: Engine, producer: Producer
) -> None:
    lost = f"Readers lose the view predictions.sums and {ROWS} predictions in 1 table of job sums."

    unconfirmed = scorebeat("jobs", "drop", scored)
    assert unconfirmed.exit_code == 2
    assert (unconfirmed.stdout, "Nothing was dropped" in unconfirmed.stderr) == (f"{lost}\n", True)
    assert relations(engine) == {"sums", "sums__adder_v1"}
    done = scorebeat("jobs", "drop", scored, "--yes")
    assert done.stdout.startswith(
        f"{lost}\njob sums is dropped, and {ROWS} predictions with it\ntake it out of jobs.toml"
    )

    assert relations(engine) == set()
    assert "sums" in scorebeat("runs", "--job", scored).output
    refused(scorebeat("requeue", "1"), "was dropped")
    assert scorebeat("apply").output == "added job sums\n"
    scorebeat("enqueue", scored)
    score_all(producer, 2)
    assert query(engine, "SELECT count(*) FROM predictions.sums") == [(ROWS,)]
    assert scorebeat("jobs", "drop", scored, "--yes").exit_code == 0
    assert scorebeat("apply").output == "added job sums\n"


def test_a_job_that_left_its_file_is_dropped_with_its_model(
    scorebeat: Cli, scored: str, settings: Settings, engine: Engine, producer: Producer
) -> None:
    refused(scorebeat("models", "drop", "adder", "--yes"), "model adder is used by sums", "scorebeat jobs drop sums")
    settings.jobs.write_text("")
    scorebeat("apply", "--remove-all")

    refused(scorebeat("models", "drop", "adder", "--yes"), "predictions.sums shows predictions of adder/1", "jobs drop")
    assert scorebeat("jobs", "drop", scored, "--yes").exit_code == 0
    refused(scorebeat("models", "drop", "adder"), "Drop model adder with 1 version and 0 predictions?", "use --yes")
    assert scorebeat("models", "drop", "adder", "--yes").exit_code == 0

    assert relations(engine) == set()
    assert json.loads(scorebeat("models", "list", "--json").stdout) == []
    assert not list(Path(producer.settings.artifacts).glob("adder/*"))


def test_nothing_is_dropped_or_renamed_while_a_run_is_open(
    scorebeat: Cli, scored: str, engine: Engine, producer: Producer
) -> None:
    enqueue(producer, Request(scored, "test"))
    before = relations(engine)

    for command in (
        ["jobs", "drop", scored],
        ["jobs", "rename", scored, "totals"],
        ["models", "rename", "adder", "plus"],
    ):
        refused(scorebeat(*command, "--yes"), "run", "scorebeat cancel 2", "Nothing was changed")

    assert relations(engine) == before


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("jobs rename sums F-A", "Nothing was renamed"),
        ("jobs rename sums sums", "Nothing was renamed"),
        ("models rename adder adder", "Nothing was renamed"),
        ("models rename adder F-A", "is not a model's name"),
    ],
)
def test_a_name_that_cannot_be_had_is_refused_before_anything_is_announced(
    scorebeat: Cli, scored: str, command: str, why: str
) -> None:
    assert scored == "sums"
    result = scorebeat(*command.split())

    refused(result, why)
    assert result.stdout == ""


def test_an_object_that_depends_on_a_jobs_view_keeps_it_from_being_dropped(
    scorebeat: Cli, scored: str, engine: Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE VIEW report AS SELECT sum(total) FROM predictions.sums"))

    refused(scorebeat("jobs", "drop", scored, "--yes"), "view report depends on", "Nothing was dropped")
    assert query(engine, "SELECT count(*) FROM predictions.sums") == [(ROWS,)]


def test_a_renamed_job_has_its_predictions_its_runs_and_its_readers(
    scorebeat: Cli, scored: str, settings: Settings, engine: Engine, producer: Producer
) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE VIEW report AS SELECT count(total) FROM predictions.sums"))
        connection.execute(text("GRANT SELECT ON predictions.sums TO pg_monitor"))

    refused(scorebeat("jobs", "rename", scored, "totals"), "use --yes", "Nothing was renamed")
    done = scorebeat("jobs", "rename", scored, "totals", "--yes")
    assert "Readers of predictions.sums find nothing there any more: it is predictions.totals then." in done.stdout
    assert "rename it in jobs.toml, too" in done.stdout

    assert relations(engine) == {"totals", "totals__adder_v1"}
    assert query(engine, "SELECT * FROM report") == [(ROWS,)]
    assert query(engine, "SELECT has_table_privilege('pg_monitor', 'predictions.totals', 'SELECT')") == [(True,)]
    settings.jobs.write_text(JOB.replace("[jobs.sums]", "[jobs.totals]"))
    assert scorebeat("apply").output == "nothing changed: 1 job as before\n"
    assert "nothing is pending" in scorebeat("plan", "totals").output
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO pairs VALUES (1001, 1, 2)"))
    scorebeat("enqueue", "totals")
    score_all(producer, 2)
    assert query(engine, "SELECT * FROM report") == [(ROWS + 1,)]
    assert scorebeat("runs", "--job", "totals").output.count("totals") >= 2
    settings.jobs.write_text(JOB)  # the old name is free
    assert scorebeat("apply").output.startswith("added job sums")


def test_a_job_is_not_renamed_to_what_is_no_name_or_is_taken(
    scorebeat: Cli, scored: str, settings: Settings, engine: Engine
) -> None:
    settings.jobs.write_text(JOB + JOB.replace("[jobs.sums]", "[jobs.others]"))
    scorebeat("apply")

    refused(scorebeat("jobs", "rename", scored, "others", "--yes"), "there is, or was, a job others", "Nothing was ren")
    refused(scorebeat("jobs", "rename", scored, "Totals", "--yes"), "'Totals' cannot name a job", "Nothing was renamed")
    refused(scorebeat("jobs", "rename", "summs", "totals", "--yes"), "there is no job 'summs'", "Did you mean 'sums'")

    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE predictions.totals ()"))
    refused(scorebeat("jobs", "rename", scored, "totals", "--yes"), "predictions.totals is there already")
    assert query(engine, SETS) == [("sums", "sums__adder_v1"), ("others", "others__adder_v1")]


def test_a_renamed_model_has_its_versions_its_files_and_its_jobs(
    scorebeat: Cli, scored: str, settings: Settings, engine: Engine, producer: Producer, adder: Path
) -> None:
    settings.jobs.write_text(JOB + JOB.replace("[jobs.sums]", "[jobs.pinned]").replace('"adder"', '"adder/1"'))
    scorebeat("apply")
    refused(scorebeat("models", "rename", "addr", "plus", "--yes"), "there is no model 'addr'", "'adder'")

    done = scorebeat("models", "rename", "adder", "plus", "--yes")
    assert "model adder is plus now, with 1 version" in done.output
    assert 'write model = "plus" in the file of pinned, sums' in done.output

    assert relations(engine) == {"sums", "sums__plus_v1", "pinned", "pinned__plus_v1"}
    assert query(engine, "SELECT spec ->> 'model' FROM scorebeat.jobs ORDER BY name") == [("plus/1",), ("plus",)]
    (version,) = json.loads(scorebeat("models", "list", "--json").stdout)
    assert (version["model"], version["rows_scored"]) == ("plus/1", ROWS)
    store.verify(producer.settings.artifacts, "plus", 1, version["digest"], cache=producer.settings.cache)
    assert not list(Path(producer.settings.artifacts).glob("adder/*"))
    refused(scorebeat("apply"), "readers would lose 100 predictions of plus/1")  # the file has the old name
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO pairs VALUES (1001, 1, 2)"))
    scorebeat("enqueue", scored)
    score_all(producer, 2)
    assert query(engine, "SELECT count(*) FROM predictions.sums") == [(ROWS + 1,)]
    scorebeat("models", "add", str(adder), "--name", "adder", "--outputs", "total")
    assert scorebeat("models", "rename", "plus", "adder", "--yes").exit_code == 2


def test_a_model_in_a_store_behind_a_url_is_renamed_with_its_files(
    scorebeat: Cli, adder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    url = f"file://{tmp_path / 'behind'}"
    monkeypatch.setenv("SCOREBEAT_ARTIFACTS", url)
    scorebeat("models", "add", str(adder), "--name", "adder", "--outputs", "total")

    assert scorebeat("models", "rename", "adder", "plus", "--yes").exit_code == 0

    (version,) = json.loads(scorebeat("models", "list", "--json").stdout)
    store.verify(url, "plus", 1, version["digest"], cache=settings.cache)
    assert not list((tmp_path / "behind" / "adder").glob("*/model.toml"))
