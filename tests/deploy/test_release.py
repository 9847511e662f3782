"""The requirements of a release on the tree, as far as they take no download; `make release-check` does the rest."""

import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

from tests.deploy.release import junk, project, require_changes
from tests.deploy.wheel import REPOSITORY, ROOMS


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [one for one in opened.namelist() if one.endswith(".dist-info/METADATA")]
        return message_from_bytes(opened.read(name))


@pytest.mark.slow
def test_the_wheel_has_the_version_and_the_words_of_the_project(metadata: Message) -> None:
    declared = project(REPOSITORY)

    assert metadata["Version"] == declared["version"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "# Scorebeat" in metadata.get_payload()
    assert metadata["Keywords"]
    assert metadata.get_all("Classifier")


@pytest.mark.slow
def test_the_wheel_has_every_module_migration_and_example_and_nothing_else(wheel: Path) -> None:
    kept = {"scorebeat/__init__.py", "scorebeat/py.typed"} | {
        f"scorebeat/{path.relative_to(REPOSITORY).as_posix()}"
        for package in ROOMS
        for path in (REPOSITORY / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()

    assert {name for name in names if ".dist-info/" not in name} == kept
    assert junk(names) == []


def test_the_changelog_describes_the_version_that_is_in_the_tree() -> None:
    require_changes(REPOSITORY, project(REPOSITORY)["version"])


@pytest.mark.parametrize("text", ["## [0.1.0]\n\n- all\n", "## [0.1.0] - 2026-11-22\n\n## [0.0.9] - 2026-01-01\n- x\n"])
def test_a_changelog_without_day_or_changes_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "CHANGELOG.md").write_text(text)

    with pytest.raises(SystemExit, match="has no section"):
        require_changes(tmp_path, "0.1.0")


def test_a_file_that_no_archive_may_hold_is_detected() -> None:
    bad = [".ci/run", "a/.env", ".scorebeat/data/x", "core/__pycache__/a.pyc", "artifacts/iris/1/model.toml"]

    assert junk([*bad, ".env.example", "core/env.py", "docs/how-to/release.md"]) == bad
