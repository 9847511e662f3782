"""docker-compose.yml as Compose itself reads it, for which no engine needs to run."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy import packages
from tests.deploy.compose import COMPOSE, SECRETS, read

ENVIRONMENT = {name: f"secret-of-{name.lower()}" for name in SECRETS}
pytestmark = pytest.mark.skipif(not packages.COMPOSE, reason=packages.WANTING)


def config(folder: Path, environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in environment.items()))
    shutil.copy(COMPOSE, folder)
    every = ("--profile", "*", "--project-directory", str(folder), "config", *options)
    return subprocess.run([*packages.COMPOSE, *every], capture_output=True, text=True, check=False, timeout=60)


def test_compose_reads_the_file_without_a_warning(tmp_path: Path) -> None:
    done = config(tmp_path, ENVIRONMENT, "--quiet")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", SECRETS)
def test_compose_stops_at_a_missing_password_and_names_the_next_step(tmp_path: Path, name: str) -> None:
    done = config(tmp_path, {**ENVIRONMENT, name: ""}, "--quiet")

    assert done.returncode != 0
    assert f"{name} is missing a value: copy deploy/compose.env.example to .env and fill it in" in done.stderr


def test_compose_fills_in_what_other_tests_of_the_file_expect(tmp_path: Path) -> None:
    printed = json.loads(config(tmp_path, ENVIRONMENT, "--format", "json").stdout)["services"]
    expected = read(ENVIRONMENT).services

    assert printed.keys() == expected.keys()
    for name, service in expected.items():
        assert printed[name].get("environment", {}) == service.environment, name
        words = [word.replace("$$", "$") for word in printed[name].get("command") or []]
        assert words == service.definition.get("command", []), name
        waits = {other: how["condition"] for other, how in printed[name].get("depends_on", {}).items()}
        assert waits == service.needs, name
