"""The files of `.github` and `.devcontainer`: they run what a person runs, and name what exists."""

import json
import os
import re
from pathlib import Path

import yaml  # type: ignore[import-untyped]  # publishes no types

ROOT = Path(__file__).parents[2]
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def _commands(workflow: str) -> dict[str, list[str]]:
    """By job."""
    jobs = yaml.safe_load((ROOT / ".github/workflows" / workflow).read_text())["jobs"]
    return {name: [str(step["run"]) for step in job["steps"] if "run" in step] for name, job in jobs.items()}


def test_the_workflow_ends_with_the_projects_own_run_and_every_command_of_it_exists() -> None:
    commands = _commands("ci.yml")

    assert commands["checks-and-tests"][-1] == ".ci/run"
    assert commands["all-tests"][-1] == "make test-all"
    assert commands["containers"] == ['sudo env "PATH=$PATH" SCOREBEAT_REQUIRE_ENGINE=1 make test-containers']
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert (
        set(re.findall(r"\bmake ([a-z-]+)", " ".join(command for job in commands.values() for command in job)))
        <= TARGETS
    )


def test_the_recipes_run_each_night_and_where_they_change() -> None:
    text = (ROOT / ".github/workflows/recipes.yml").read_text()

    assert [*_commands("recipes.yml").values()] == [["make test-recipes"]]
    assert "test-recipes" in TARGETS
    for pattern in re.findall(r"^      - ([\w./*-]+)$", text.split("jobs:")[0], re.MULTILINE):
        assert list(ROOT.glob(pattern)), pattern


def test_issue_forms_have_what_github_requires_of_them() -> None:
    forms = [file for file in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if file.name != "config.yml"]

    assert len(forms) == 2
    for form in forms:
        read = yaml.safe_load(form.read_text())
        assert {"name", "description", "body"} <= set(read), form
        fields = [part for part in read["body"] if part["type"] != "markdown"]
        assert fields, form
        assert all(part["attributes"]["label"] for part in fields), form
        assert len({part["id"] for part in fields}) == len(fields), form


def test_the_development_container_uses_commands_that_exist() -> None:
    read = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())

    words = f"{read['onCreateCommand']} {read['postCreateCommand']}"
    assert set(re.findall(r"\bmake (?:[A-Z]+=\S+ )?([a-z-]+)", words)) == {"packages", "install"} & TARGETS
