"""Compose itself builds the image from docker-compose.yml, with the packages of EXTRAS in it."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.engine import docker, require_engine, run
from tests.deploy.compose import REPOSITORY, SECRETS

pytestmark = pytest.mark.wide


@pytest.fixture
def tag() -> Iterator[str]:
    require_engine()
    made = f"scorebeat-{secrets.token_hex(4)}:built"
    yield made
    run("image", "rm", "--force", made)


def test_compose_builds_an_image_with_the_extras_that_the_environment_names(tag: str, tmp_path: Path) -> None:
    environment, more = tmp_path / "environment", tmp_path / "more.yml"
    environment.write_text("".join(f"{name}=unused\n" for name in SECRETS) + "EXTRAS=lightgbm,s3\n", "utf-8")
    more.write_text(f"services: {{ migrate: {{ image: '{tag}', build: {{ network: host }} }} }}\n", "utf-8")

    docker(
        "compose", "--project-directory", str(REPOSITORY), "--env-file", str(environment),
        "--file", str(REPOSITORY / "docker-compose.yml"), "--file", str(more), "build", "migrate",
    )  # fmt: skip

    program = ("run", "--rm", "--read-only", "--network", "none", "--entrypoint", "python", tag, "-c")
    docker(*program, "import lightgbm, s3fs, scorebeat")
    assert run(*program, "import xgboost").returncode == 1, "which nobody named"
    assert docker("run", "--rm", tag, "--version").startswith("scorebeat")
