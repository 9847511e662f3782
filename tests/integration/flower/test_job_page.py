"""The page of a job and its report as a file: figures of the ledger, wrong addresses, and what is not there yet."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from scorebeat.core.jobs.drift_limits import DriftLimits
from scorebeat.db.ledger.evidence import profiles
from scorebeat.drift.comparison import compare
from scorebeat.drift.profile import Profile
from tests.support.cli_fixtures import Cli, scorebeat
from tests.support.flower_fixtures import a_run, flower, s
from tests.support.flower_program import Flower
from tests.support.system import System

__all__ = ["flower", "s", "scorebeat"]

MARKUP = "<b onclick=alert(1)>\"x'"


class Tables(HTMLParser):
    """The texts of the cells of each table of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.addresses: list[str] = []
        self.in_cell = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        match tag:
            case "table":
                self.tables.append([])
            case "tr":
                self.tables[-1].append([])
            case "td" | "th":
                self.tables[-1][-1].append("")
                self.in_cell = True
        self.addresses += [str(value) for name, value in attrs if name in ("href", "src")]

    def handle_endtag(self, tag: str) -> None:
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.in_cell:
            self.tables[-1][-1][-1] += data.strip()

    def of(self, *head: str) -> list[list[str]]:
        """The rows of the table with these columns."""
        return next(table[1:] for table in self.tables if tuple(table[0]) == head)


def profile(shift: float, labels: list[str]) -> Profile:
    rows = 1_200
    values = np.linspace(0, 10, rows) + shift
    outputs = pa.record_batch({"label": [labels[at % len(labels)] for at in range(rows)]})
    return Profile.of(pa.record_batch({MARKUP: values, "calm": np.arange(rows) % 2}), outputs)


def drifted_job(s: System, name: str) -> list[int]:
    """Three runs, of which the second is near the first, and the third is not."""
    found = [a_run(s, "succeeded", name, "committed") for _ in range(3)]
    reference = profile(0, ["yes", "no"])
    s.execute(
        "INSERT INTO scorebeat.reference_profiles (model, model_version, job, source, profile, made_by)"
        " SELECT model, model_version, job, 'run ' || id, :profile, 'test' FROM scorebeat.runs WHERE id = :run",
        run=found[0],
        profile=reference.to_bytes(),
    )
    ((kept,),) = s.query("SELECT max(id) FROM scorebeat.reference_profiles WHERE job = :job", job=name)
    for run, its in zip(found[1:], (profile(0, ["yes", "no"]), profile(8, ["no", "no", "no", "yes"])), strict=True):
        s.execute(
            "INSERT INTO scorebeat.run_profiles (run_id, job, profile, rows) VALUES (:run, :job, :profile, 1200)",
            run=run,
            job=name,
            profile=its.to_bytes(),
        )
        with s.engine.begin() as connection:
            profiles.record(connection, run, kept, compare(reference, its, DriftLimits()), None)
    return found


@pytest.fixture(scope="module")
def job(s: System) -> str:
    drifted_job(s, "shifted")
    return "shifted"


def test_the_page_shows_what_drifted_and_draws_it_beside_the_reference(flower: Flower, job: str) -> None:
    page = flower.get(f"/runs/job/{job}")
    assert page.status_code == 200
    assert MARKUP not in page.text
    found = Tables(page.text)

    first, second = next(table for table in found.tables if table[0][0] == "Measure")[1:3]
    assert first[0] == f"{MARKUP}input"
    assert (float(first[1]) < 0.05, float(first[2]) > 0.2) == (True, True)
    assert second[0] == "labeloutput"
    newest = max(int(address.rpartition("/")[2]) for address in found.addresses if re.fullmatch(r"/runs/\d+", address))
    assert found.of("Run", "Version", "Rows of the sample", "no", "yes") == [
        [f"run {newest}", "1", "1,200", "75.0 %", "25.0 %"],
        [f"run {newest - 1}", "1", "1,200", "50.0 %", "50.0 %"],
    ]
    drawn = [table[1:] for table in found.tables if table[0] == ["values", "Reference", f"Run {newest}"]]
    assert drawn[1] == [["no", "50.0 %", "75.0 %"], ["yes", "50.0 %", "25.0 %"]]


def test_a_cell_of_the_heat_map_leads_to_its_distribution(flower: Flower, job: str) -> None:
    cells = [address for address in Tables(flower.get(f"/runs/job/{job}").text).addresses if "measure=calm" in address]
    assert len(cells) == 2

    chosen = flower.get(cells[0])

    assert chosen.status_code == 200
    assert "calm (input) of run" in chosen.text
    assert f"{MARKUP} (input)".replace("<", "&lt;").replace('"', "&quot;") not in chosen.text


def test_a_measure_with_markup_in_its_name_is_drawn_too(flower: Flower, job: str) -> None:
    cells = [address for address in Tables(flower.get(f"/runs/job/{job}").text).addresses if "onclick" in address]
    assert len(cells) == 2

    chosen = flower.get(cells[0])

    assert [table[0][0] for table in Tables(chosen.text).tables].count("values") == 1
    assert "was not compared" not in chosen.text


def test_the_page_of_a_job_draws_no_run_of_another_job(s: System, flower: Flower, job: str) -> None:
    *_, others = drifted_job(s, "another")

    page = flower.get(f"/runs/job/{job}?run={others}&side=input&measure=calm").text

    assert f"run {others} was not compared by an input calm." in page


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("nobody", 404, "There is no job nobody."),
        ("shifted?run=x", 400, "run: expected a whole number"),
        ("shifted?run=1&side=left&measure=calm", 400, "side: expected input or output"),
        ("shifted?run=987654&side=input&measure=calm", 200, "run 987654 was not compared by an input calm."),
        ("a%00b", 400, "a name without NUL"),
    ],
)
@pytest.mark.usefixtures("job")
def test_a_wrong_address_names_what_was_expected(flower: Flower, path: str, status: int, message: str) -> None:
    page = flower.get(f"/runs/job/{path}")

    assert (page.status_code, message in page.text) == (status, True)


def test_a_job_without_runs_and_one_that_was_removed_have_a_page(s: System, flower: Flower) -> None:
    s.job("unborn", rows=4)
    page = flower.get("/runs/job/unborn").text
    assert page.count("Nothing yet.") == 3
    for text in (
        "No complete results yet.",
        "It runs by hand only.",
        "that needs two runs",
        "has no <code>truth</code>",
    ):
        assert text in page

    a_run(s, "succeeded", "gone", "committed")
    s.execute("UPDATE scorebeat.jobs SET removed_at = now() WHERE name = 'gone'")
    page = flower.get("/runs/job/gone").text
    assert "no longer in a jobs file" in page
    assert 'id="run-gone"' not in page


def test_a_run_that_is_due_in_a_year_to_come_is_in_the_calendar_of_today(s: System, flower: Flower) -> None:
    run = a_run(s, "succeeded", "ahead", "committed")
    s.execute("UPDATE scorebeat.runs SET due_at = '9999-12-31' WHERE id = :run", run=run)
    ((today,),) = s.query("SELECT (now() AT TIME ZONE 'UTC')::date")

    page = flower.get("/runs/job/ahead")

    assert (page.status_code, Tables(page.text).of("Day", "Runs", "Newest")) == (
        200,
        [[str(today), "1 succeeded", f"run {run}"]],
    )


def test_a_report_is_one_file_with_the_figures_of_the_page(
    s: System, flower: Flower, job: str, scorebeat: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCOREBEAT_DATABASE_URL", str(s.settings.database_url))
    written = tmp_path / "report.html"

    result = scorebeat("report", job, "--html", str(written))
    assert (result.exit_code, str(written) in result.output) == (0, True), result

    page = written.read_text("utf-8")
    found, live = Tables(page), Tables(flower.get(f"/runs/job/{job}").text)
    assert found.addresses == []
    assert "<script" not in page
    assert "@import" not in page
    assert "url(" not in page
    assert found.tables == live.tables
    assert scorebeat("report", job, "--html", "-").output.startswith("<!doctype html>")


def test_a_report_that_cannot_be_written_leaves_a_message(
    s: System, job: str, scorebeat: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCOREBEAT_DATABASE_URL", str(s.settings.database_url))
    for arguments, message in (
        ((job,), "--html"),
        ((job, "--html", str(tmp_path / "no" / "report.html")), "No such file or directory. Name a file"),
        ((job, "--html", str(tmp_path)), "cannot be written"),
        (("nobody", "--html", "x.html"), "there is no job 'nobody'"),
    ):
        result = scorebeat("report", *arguments)
        assert (result.exit_code, message in result.output) == (2, True), result
