"""Compose on a real engine: one project with volumes of its own, from an image that is built from this tree."""

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.compose import EXAMPLE, REPOSITORY
from tests.support.fixtures import free_port

BASES = ("python:3.11-slim-trixie", "postgres:18-trixie", "redis:8.2-bookworm")
DOCKER = shutil.which("docker")
IMAGE = os.environ.get("SCOREBEAT_TEST_IMAGE", "scorebeat-under-test:cpu")
"""What the tests build: a system that runs on this machine keeps its own `scorebeat:cpu`."""
LONGEST = 900.0
"""Seconds of one command; a build on a slow machine takes minutes."""


def unavailable() -> str | None:
    """Why nothing can be run in containers here; None if it can."""
    if DOCKER is None:
        return "no docker here: install Docker Engine and Compose to run this"
    for arguments, reason in (
        (("compose", "version"), "docker has no Compose here"),
        (("info",), "no engine runs here"),
    ):
        if run(*arguments).returncode:
            return reason
    for image in BASES:
        if run("image", "inspect", image).returncode and run("pull", image).returncode:
            return f"{image} can be neither found nor pulled"
    return None


def run(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    assert DOCKER is not None
    return subprocess.run(
        [DOCKER, *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=LONGEST
    )


@dataclass(frozen=True)
class Composed:
    """The whole system in containers."""

    folder: Path
    name: str

    def compose(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """What `docker compose` prints. Raises AssertionError with all that it printed if it fails."""
        project = ("--project-name", self.name, "--project-directory", str(self.folder))
        done = run("compose", *project, *arguments, stdin=stdin)
        assert not check or done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def cli(self, *arguments: str, check: bool = True) -> str:
        return self.compose("run", "--rm", "--no-deps", "-T", "cli", *arguments, check=check)

    def sql(self, statement: str, *, check: bool = True) -> list[list[str]]:
        """The rows of a statement, as texts; empty text for NULL. Without `check` none while the database is away."""
        printed = self.compose(
            "exec", "-T", "database", "psql", "-U", "scorebeat_owner", "-At", "-F", "\t", "-v", "ON_ERROR_STOP=1",
            "scorebeat", stdin=statement, check=check,
        )  # fmt: skip
        return [line.split("\t") for line in printed.splitlines()]

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "--quiet", service).split()

    def health(self) -> dict[str, str]:
        """By service, of those that go on."""
        lines = self.compose("ps", "--format", "json").splitlines()
        return {one["Service"]: one["Health"] for one in map(json.loads, lines)}

    def kill(self, service: str) -> None:
        """SIGKILL for the programs of one container of the service, as if they had crashed; the engine starts them
        anew. `docker kill` would count as a stop by hand."""
        first = self.containers(service)[0]
        pid = inspect(first, "{{.State.Pid}}")
        os.kill(int(pid), 9)


def docker(*arguments: str) -> str:
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def inspect(container: str, wanted: str) -> str:
    """One fact about a container, by the engine's template."""
    return docker("inspect", "--format", wanted, container)


def copy_compose_files(folder: Path) -> None:
    """docker-compose.yml, with the image that the tests build, and what docs add to it."""
    text = (REPOSITORY / "docker-compose.yml").read_text("utf-8")
    (folder / "docker-compose.yml").write_text(text.replace("image: scorebeat:cpu", f"image: {IMAGE}"), "utf-8")
    (folder / "deploy").mkdir()
    shutil.copy(REPOSITORY / "deploy/compose.servers.yml", folder / "deploy")


@contextmanager
def composed(folder: Path) -> Iterator[Composed]:
    """Built and started in this folder; at the end nothing is left of it but the image."""
    copy_compose_files(folder)
    filled = EXAMPLE.read_text("utf-8")
    for name in ("OWNER_PASSWORD", "RUN_PASSWORD", "BROKER_PASSWORD", "API_TOKEN"):
        filled = filled.replace(f"\n{name}=\n", f"\n{name}={secrets.token_hex(24)}\n")
    filled = filled.replace("\nFLOWER_LOGIN=\n", f"\nFLOWER_LOGIN=admin:{secrets.token_hex(12)}\n")
    filled += f"\nFLOWER_PORT={free_port()}\nAPI_PORT={free_port()}\n"
    (folder / ".env").write_text(filled)
    (folder / "project").mkdir()
    (folder / "certificates").mkdir()
    docker("build", "--network", "host", "--target", "cpu", "--tag", IMAGE, str(REPOSITORY))
    one = Composed(folder, f"scorebeat-{secrets.token_hex(4)}")
    try:
        one.compose("up", "--no-build", "--detach", "--wait")
        yield one
    finally:
        one.compose("--profile", "cli", "down", "--volumes", "--timeout", "10", check=False)
