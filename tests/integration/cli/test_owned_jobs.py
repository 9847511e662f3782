"""A jobs file owns the jobs that it made: no other file changes or removes them; its own go when that is requested."""

from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from scorebeat.core.settings import Settings
from scorebeat.ops.local.prepare import prepare
from tests.support.cli_fixtures import JOB, Cli, refused

pytestmark = pytest.mark.wide

OTHER = JOB.replace("[jobs.sums]", "[jobs.others]")
THIRD = JOB.replace("[jobs.sums]", "[jobs.third]")


def names(engine: Engine) -> dict[str, str | None]:
    """The jobs that there are, with their owners."""
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT name, owner FROM scorebeat.jobs WHERE removed_at IS NULL ORDER BY 1"))
        return {row[0]: row[1] for row in rows}


def write(path: Path, content: str) -> str:
    path.write_text(content)
    return str(path)


def test_another_file_leaves_the_jobs_of_the_first_alone(
    scorebeat: Cli, job: str, engine: Engine, tmp_path: Path
) -> None:
    other = write(tmp_path / "other.toml", OTHER)

    assert scorebeat("apply", "--file", other).output == "added job others\n"
    assert scorebeat("apply", "--file", other, "--prune").output.startswith("nothing changed: 1 job")
    write(tmp_path / "other.toml", THIRD)
    assert scorebeat("apply", "--file", other, "--prune").output == "added job third\nremoved job others\n"

    assert names(engine) == {job: "jobs.toml", "third": "other.toml"}


def test_a_job_that_left_its_file_goes_on_until_it_is_pruned(
    scorebeat: Cli, job: str, settings: Settings, engine: Engine
) -> None:
    write(settings.jobs, OTHER)

    kept = scorebeat("apply").output
    assert kept.startswith(
        "added job others\nnote: job sums is not in jobs.toml any more and goes on; `scorebeat apply"
    )
    prepare(settings)
    assert names(engine) == {job: "jobs.toml", "others": "jobs.toml"}
    assert scorebeat("apply", "--prune").output == "removed job sums\n"

    assert names(engine) == {"others": "jobs.toml"}


def test_a_job_of_another_file_is_changed_only_by_adopting_it(
    scorebeat: Cli, job: str, engine: Engine, tmp_path: Path
) -> None:
    other = write(tmp_path / "other.toml", JOB.replace("40", "50"))

    refused(scorebeat("apply", "--file", other), "jobs.sums of", "belongs to 'jobs.toml'", "--adopt", "nothing was app")
    assert scorebeat("apply").output.startswith("nothing changed")
    assert scorebeat("apply", "--file", other, "--adopt").output == "changed job sums\n"

    assert names(engine) == {job: "other.toml"}


def test_a_renamed_file_names_its_owner_at_its_top(scorebeat: Cli, job: str, engine: Engine, tmp_path: Path) -> None:
    renamed = write(tmp_path / "renamed.toml", f'owner = "jobs.toml"\n{JOB.replace("40", "50")}')

    assert scorebeat("apply", "--file", renamed).output == "changed job sums\n"

    assert names(engine) == {job: "jobs.toml"}


def test_a_dry_run_shows_the_difference_and_changes_nothing(
    scorebeat: Cli, job: str, settings: Settings, engine: Engine
) -> None:
    write(settings.jobs, OTHER + JOB.replace("40", "50").replace("a, b FROM", "a, a AS b FROM"))
    was = _ledger(engine)

    shown = scorebeat("apply", "--dry-run").output
    assert shown == f"would add job others\nwould change job {job}: query, batch_rows 40 -> 50\n"
    write(settings.jobs, OTHER)
    assert "would remove job sums" in scorebeat("apply", "--dry-run", "--prune").output
    assert "any more and goes on" in scorebeat("apply", "--dry-run").output
    write(settings.jobs, JOB.replace("SELECT id", "SELECT x"))
    refused(scorebeat("apply", "--dry-run"), "jobs.sums.query")

    assert _ledger(engine) == was


def _ledger(engine: Engine) -> list[object]:
    with engine.connect() as connection:
        kept = ["scorebeat.jobs", "scorebeat.prediction_sets", "scorebeat.actions"]
        return [connection.execute(text(f"SELECT array_agg(t ORDER BY t::text) FROM {one} t")).all() for one in kept]


@pytest.mark.usefixtures("job")
def test_jobs_applied_before_files_owned_them_belong_to_the_first_that_names_them(
    scorebeat: Cli, settings: Settings, engine: Engine, tmp_path: Path
) -> None:
    write(settings.jobs, JOB + OTHER)
    scorebeat("apply")
    with engine.begin() as connection:
        connection.execute(text("UPDATE scorebeat.jobs SET owner = NULL"))
    other = write(tmp_path / "other.toml", OTHER)

    adopted = scorebeat("apply", "--file", other, "--prune").output

    assert names(engine) == {"others": "other.toml", "sums": None}
    assert "note: job sums is in no file that was applied since files own jobs, and goes on" in adopted
    write(settings.jobs, JOB)
    assert scorebeat("apply").output == "nothing changed: 1 job as before\n"
    assert names(engine) == {"others": "other.toml", "sums": "jobs.toml"}


@pytest.mark.usefixtures("job")
def test_a_folder_of_files_is_applied_at_once_and_a_job_may_move_between_them(
    scorebeat: Cli, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    folder = tmp_path / "jobs"
    folder.mkdir()
    monkeypatch.setenv("SCOREBEAT_JOBS", str(folder))
    refused(scorebeat("apply"), "is a folder without a jobs file")
    write(folder / "a.toml", OTHER)
    write(folder / "b.toml", THIRD)
    write(folder / ".b.toml.swp.toml", "no jobs file")

    first = scorebeat("apply").output
    assert first.startswith("added job others\nadded job third\nnote: job sums belongs to jobs.toml, which is not in")
    assert names(engine) == {"others": "a.toml", "sums": "jobs.toml", "third": "b.toml"}
    assert "warning  jobs file" in scorebeat("check").output
    write(folder / "a.toml", OTHER + THIRD)
    refused(scorebeat("apply"), "b.toml: [jobs.third] is in", "a.toml too")
    write(folder / "b.toml", "[jobs.fresh]\n")
    refused(scorebeat("apply"), "b.toml: 3 mistakes")
    write(folder / "b.toml", JOB.replace("[jobs.sums]", "[jobs.fresh]"))
    prepare(settings.model_copy(update={"jobs": folder}))

    assert names(engine) == {"fresh": "b.toml", "others": "a.toml", "sums": "jobs.toml", "third": "a.toml"}


@pytest.mark.usefixtures("job")
def test_jobs_of_a_file_that_left_its_folder_go_on_with_a_note_until_removed(
    scorebeat: Cli, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "jobs"
    folder.mkdir()
    monkeypatch.setenv("SCOREBEAT_JOBS", str(folder))
    write(folder / "jobs.toml", JOB)
    write(folder / "b.toml", THIRD)
    assert scorebeat("apply").stdout == "added job third\n"
    (folder / "b.toml").unlink()

    for command in (["apply"], ["apply", "--prune"], ["apply", "--prune", "--dry-run"]):
        assert "note: job third belongs to b.toml, which is not in this folder" in scorebeat(*command).output
    checked = scorebeat("check").output
    assert "warning  jobs file" in checked
    assert "third" in checked.partition("jobs file: ")[2].splitlines()[0]
    assert names(engine) == {"sums": "jobs.toml", "third": "b.toml"}
    empty = write(tmp_path / "b.toml", "")
    assert scorebeat("apply", "--file", empty, "--remove-all").exit_code == 0
    assert "third" not in scorebeat("apply").output


@pytest.mark.usefixtures("job")
def test_remove_all_takes_no_job_of_another_file(
    scorebeat: Cli, settings: Settings, engine: Engine, tmp_path: Path
) -> None:
    scorebeat("apply", "--file", write(tmp_path / "other.toml", OTHER))
    write(settings.jobs, "")

    refused(scorebeat("apply", "--prune"), "1 job (sums)", "--remove-all")
    assert scorebeat("apply", "--remove-all").output == "removed job sums\n"

    assert names(engine) == {"others": "other.toml"}


@pytest.mark.parametrize("owner", ["5", '""', '" a"', '"a\\nb"', f'"{"x" * 101}"'])
def test_an_owner_that_is_no_name_is_a_mistake_with_its_line(scorebeat: Cli, settings: Settings, owner: str) -> None:
    write(settings.jobs, f"owner = {owner}\n{JOB}")

    refused(scorebeat("apply"), "jobs.toml: 1 mistake", "line 1, owner: is", "expected a name in quotes")
