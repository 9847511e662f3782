"""`models add` shows what a version was tried on, keeps it, and publishes no version silently that scored no row."""

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from sqlalchemy import Engine, text

from scorebeat.core.settings import Settings
from scorebeat.producer.context import Producer
from scorebeat.producer.versions import publish as publishing
from scorebeat.producer.versions.sample_job import SampleJob
from tests.support.cli_fixtures import JOB, Cli, refused, write_adder

PICKY = dedent("""
    class Picky:
        inputs = {"a": "float64", "b": "float64"}
        outputs = {"total": "float64"}
        def __init__(self, files, device): ...
        def predict(self, rows):
            a, b = (rows[name].to_numpy(zero_copy_only=False) for name in "ab")
            if (b != 2 * a).any():
                raise ValueError("b is twice a")
            return {"total": a + b}
""")


def listed(scorebeat: Cli) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(scorebeat("models", "list", "--json").stdout)
    return found


@pytest.fixture
def picky(tmp_path: Path, scorebeat: Cli) -> str:
    """A class that takes only rows like those of the job."""
    assert scorebeat("models", "list").exit_code == 0
    (tmp_path / "picky.py").write_text(PICKY)
    return "picky:Picky"


@pytest.mark.usefixtures("pairs")
def test_rows_of_a_job_that_was_applied_before_its_model_are_the_evidence(
    scorebeat: Cli, adder: Path, settings: Settings
) -> None:
    settings.jobs.write_text(JOB)
    scorebeat("apply")

    result = scorebeat("models", "add", str(adder), "--name", "adder", "--outputs", "total", "--sample-job", "sums")

    assert result.output.startswith("model adder/1 added and published")
    assert "evidence 100 rows of job sums: agree with the library" in result.output
    assert "jobs     sums" in result.output
    (version,) = listed(scorebeat)
    assert (version["evidence"]["rows"], version["evidence"]["source"]) == (100, "job sums")


@pytest.mark.usefixtures("job")
def test_at_most_so_many_rows_of_a_job_are_read_the_first_by_its_key(producer: Producer, scorebeat: Cli) -> None:
    file = write_adder(Path("other.skops"), "a", "b", slope=3)

    result = scorebeat("models", "add", str(file), "--name", "adder", "--outputs", "total", "--sample-job", "sums",
                     "--sample-rows", "7")  # fmt: skip
    added = publishing.add(producer, file, "adder", "ann", sample=SampleJob(producer, "sums", 3))

    assert "evidence 7 rows of job sums: agree" in result.output
    assert str(added.artifact.evidence).startswith("3 rows of job sums: agree")


def test_a_first_version_that_scored_no_row_is_not_published_until_it_does(
    scorebeat: Cli, picky: str, engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    first = scorebeat("models", "add", picky, "--name", "picky")

    assert first.output.startswith("model picky/1 added (digest")
    assert "evidence none: 8 invented rows raised ValueError: b is twice a" in first.output
    assert "picky/1 was not published, for it has scored no row. Add the file again with --sample FILE" in first.stderr
    assert listed(scorebeat)[0]["published_at"] is None
    settings.jobs.write_text(JOB.replace("adder", "picky"))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE pairs (id bigint PRIMARY KEY, a float8, b float8)"))
    assert "no version of model 'picky' is published yet. Publish one with `scorebeat publish picky/1`" in (
        scorebeat("apply").output
    )
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n2,4\n")
    again = scorebeat("models", "add", picky, "--name", "picky", "--sample", "rows.csv")
    assert again.output.startswith("model picky/1 is there already and published")
    third = scorebeat("models", "add", picky, "--name", "picky")
    assert third.exit_code == 0
    (version,) = listed(scorebeat)
    assert version["published_at"] is not None
    assert version["evidence"] == {
        "rows": 2, "source": "rows.csv", "difference": None, "error": "", "unsure": "", "unsteady": ""
    }  # fmt: skip


@pytest.mark.usefixtures("pairs")
def test_a_version_that_scored_no_row_is_published_by_name(scorebeat: Cli, picky: str, settings: Settings) -> None:
    scorebeat("models", "add", picky, "--name", "picky")
    settings.jobs.write_text(JOB.replace("adder", "picky"))
    scorebeat("apply")

    refused(scorebeat("predict", "picky", "--json", '[{"a": 1, "b": 2}]'), "no version of model 'picky' is published")
    assert json.loads(scorebeat("predict", "picky/1", "--json", '[{"a": 1, "b": 2}]').stdout) == [{"total": 3.0}]
    result = scorebeat("publish", "picky/1")

    assert "model picky/1 is published; jobs that show it: sums" in result.output


def test_a_sample_that_the_model_does_not_fit_adds_nothing(
    scorebeat: Cli, picky: str, job: str, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n1,3\n")
    before = len(listed(scorebeat))

    def add(*options: str) -> Any:
        return scorebeat("models", "add", picky, "--name", "picky", *options)

    refused(add("--sample", "rows.csv"), "picky:Picky was not added: on row 2 of rows.csv it raised ValueError")
    refused(add("--sample", "rows.csv", "--sample-job", job), "give one of them")
    refused(add("--sample-job", "nosuch"), "nosuch")
    assert len(listed(scorebeat)) == before


def test_a_job_that_has_no_rows_or_other_columns_is_no_sample(
    scorebeat: Cli, picky: str, job: str, engine: Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM pairs"))
    refused(scorebeat("models", "add", picky, "--name", "picky", "--sample-job", job), "its query gives no rows")
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO pairs VALUES (1, 1, 2), (2, 1, NULL)"))

    error = refused(scorebeat("models", "add", picky, "--name", "picky", "--sample-job", job), "of job sums it raised")

    assert "the row with id 2" in error
    file = write_adder(Path("other.skops"), "a", "c")
    refused(scorebeat("models", "add", str(file), "--name", "o", "--sample-job", job), "c: the query has no")
