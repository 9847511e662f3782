"""A real engine: images of this tree and of an earlier one, and Compose projects with volumes of their own."""

import io
import json
import os
import secrets
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deploy.compose import EXAMPLE, REPOSITORY
from tests.docs.pages import Page
from tests.support.fixtures import free_port, wait_for

BASES = ("python:3.11-slim-trixie", "postgres:18-trixie", "redis:8.2-bookworm")
DOCKER, NSENTER, IPTABLES = TOOLS = ("docker", "nsenter", "iptables")
IMAGE = os.environ.get("SCOREBEAT_TEST_IMAGE", "scorebeat-under-test:cpu")
"""What the tests build of this tree: a system that runs on this machine keeps its own `scorebeat:cpu`."""
LONGEST = 900.0
"""Seconds of one command; a build on a slow machine takes minutes."""
GATE = 7
"""The advisory lock that holds batches up while a test has it."""
PROCESSES = 2
"""Of a worker, whatever the machine has."""
PAGE = Page.read(REPOSITORY / "docs/how-to/docker-compose.md")


def require_engine() -> None:
    """Skips the test where nothing can be run in containers; fails it if SCOREBEAT_REQUIRE_ENGINE is set."""
    reason = _unavailable()
    if reason is not None and os.environ.get("SCOREBEAT_REQUIRE_ENGINE"):
        pytest.fail(reason)
    if reason is not None:
        pytest.skip(reason)


def _unavailable() -> str | None:
    if missing := [name for name in TOOLS if shutil.which(name) is None]:
        return f"no {missing[0]} here: as root on Debian, make test-containers gets an engine"
    if os.geteuid():
        return "needs root: it signals programs in containers, and cuts containers off"
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


def run(*arguments: str, stdin: str | None = None, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DOCKER, *arguments], cwd=folder, input=stdin, capture_output=True, text=True, check=False, timeout=LONGEST
    )


def docker(*arguments: str) -> str:
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def inspect(one: str, wanted: str) -> str:
    """One fact about a container or an image, by the engine's template."""
    return docker("inspect", "--format", wanted, one)


def address(container: str) -> str:
    """In its network, if it has only one."""
    return inspect(container, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")


@cache
def build(tree: Path = REPOSITORY, tag: str = IMAGE) -> str:
    """The tag of the image of this tree, built once for all tests of one process."""
    docker("build", "--network", "host", "--target", "cpu", "--tag", tag, str(tree))
    return tag


def earlier_tree(folder: Path) -> Path | None:
    """This repository before its newest migration, with today's dependencies; None if its history is not here."""
    git = ("git", "-C", str(REPOSITORY))
    newest = (*git, "log", "-1", "--diff-filter=A", "--format=%H", "--", "db/schema/migrations/versions")
    commit = subprocess.run(newest, capture_output=True, text=True, check=False).stdout.strip()
    packed = subprocess.run((*git, "archive", f"{commit}^"), capture_output=True, check=False)
    if packed.returncode:
        return None
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as tree:
        tree.extractall(folder, filter="data")
    shutil.rmtree(folder / "requirements", ignore_errors=True)
    shutil.copytree(REPOSITORY / "requirements", folder / "requirements")
    shutil.copy(REPOSITORY / "Dockerfile", folder)
    return folder


def page_commands(word: str) -> list[str]:
    """The commands of the block of the page that has this word in one of them."""
    (block,) = (block for block in PAGE.blocks if block.language == "console" and word in block.text)
    return [line.removeprefix("$ ") for line in block.lines]


@dataclass(frozen=True)
class Composed:
    """The whole system in containers."""

    folder: Path
    name: str

    @property
    def image(self) -> str:
        """The tag that its containers start from, its own: other projects on the same engine keep theirs."""
        return f"{self.name}:cpu"

    def use(self, built: str) -> None:
        """Makes the built image the one that containers start from, as `docker compose build` would."""
        docker("tag", built, self.image)

    def runs(self, built: str, service: str) -> bool:
        """Whether the service's container was started from the built image."""
        return inspect(self.containers(service)[0], "{{.Image}}") == inspect(built, "{{.Id}}")

    @property
    def variables(self) -> dict[str, str]:
        """Those of its `.env`."""
        lines = (self.folder / ".env").read_text("utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines if line[:1].isupper())

    def compose(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """What `docker compose` prints, run in the folder, where paths of COMPOSE_FILE begin. Raises AssertionError
        with all that it printed if it fails."""
        done = self.attempt(*arguments, stdin=stdin)
        assert not check or done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def attempt(self, *arguments: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        """`docker compose`, whether or not it succeeds."""
        return run(*self._project, *arguments, stdin=stdin, folder=self.folder)

    @contextmanager
    def beside(self, *arguments: str) -> Iterator[None]:
        """`docker compose` with these arguments, which must succeed, beside what the block does."""
        process = subprocess.Popen(
            [DOCKER, *self._project, *arguments],
            cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            yield
        finally:
            printed, _ = process.communicate(timeout=LONGEST)
        assert process.returncode == 0, f"{' '.join(arguments)}\n{printed}"

    def shell(self, line: str) -> None:
        """A command of the page, in the folder of docker-compose.yml."""
        environment = {**os.environ, "COMPOSE_PROJECT_NAME": self.name}
        bash = ("bash", "-euo", "pipefail", "-c", line)
        done = subprocess.run(
            bash, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, check=False, timeout=LONGEST,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout!r}\n{done.stderr!r}"

    def cli(self, *arguments: str, check: bool = True) -> str:
        return self.compose("run", "--rm", "--no-deps", "-T", "cli", *arguments, check=check)

    def sql(self, statement: str, *, check: bool = True) -> list[list[str]]:
        """The rows of a statement, as texts; empty text for NULL. Without `check` none while the database is away."""
        printed = self.compose(*_PSQL, "-v", "ON_ERROR_STOP=1", stdin=statement, check=check)
        return [line.split("\t") for line in printed.splitlines()]

    @contextmanager
    def closed_gate(self) -> Iterator["Gate"]:
        """The gate, closed until it is opened, at the latest at the end, or by the end of the database."""
        session = subprocess.Popen(
            [DOCKER, *self._project, *_PSQL],
            cwd=self.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        gate = Gate(session)
        try:
            assert session.stdin is not None
            assert session.stdout is not None
            session.stdin.write(f"SELECT 'closed' FROM pg_advisory_lock({GATE});\n")
            session.stdin.flush()
            assert session.stdout.readline() == "closed\n"
            yield gate
        finally:
            gate.open()

    def request(self, method: str, path: str, **options: Any) -> httpx.Response | None:
        """What the API returns, at whichever of its two ports it is; None if it is at neither."""
        variables = self.variables
        headers = {"Authorization": f"Bearer {variables['API_TOKEN']}"}
        for port in variables["API_PORT"].split("-"):
            with suppress(httpx.TransportError):
                return httpx.request(method, f"http://127.0.0.1:{port}{path}", headers=headers, timeout=10, **options)
        return None

    def containers(self, service: str) -> list[str]:
        """The running ones."""
        return self.compose("ps", "--quiet", service).split()

    def health(self) -> dict[str, str]:
        """By service, of those that go on."""
        lines = self.compose("ps", "--format", "json").splitlines()
        return {one["Service"]: one["Health"] for one in map(json.loads, lines)}

    def kill(self, service: str) -> None:
        """SIGKILL for the programs of one container of the service, as if they had crashed; the engine starts them
        anew. `docker kill` would count as a stop by hand."""
        os.kill(self._pid(service), 9)

    def signalled(self, container: str) -> bool:
        """Whether the engine has sent the container a signal."""
        filters = ("--filter", f"container={container}", "--filter", "event=kill", "--since", "1h", "--until", "0s")
        return bool(docker("events", *filters))

    def cut(self, service: str, *servers: str) -> None:
        """From now on no packet passes between the service and these servers, in its own network namespace."""
        for server in servers:
            to = address(self.containers(server)[0])
            self._firewall(service, "--append", "OUTPUT", "--destination", to, "--jump", "DROP")
            self._firewall(service, "--append", "INPUT", "--source", to, "--jump", "DROP")

    def heal(self, service: str) -> None:
        self._firewall(service, "--flush")

    def _firewall(self, service: str, *rule: str) -> None:
        inside = (NSENTER, "--net", "--target", str(self._pid(service)))
        subprocess.run((*inside, IPTABLES, *rule), check=True, capture_output=True)

    def _pid(self, service: str) -> int:
        return int(inspect(self.containers(service)[0], "{{.State.Pid}}"))

    @property
    def _project(self) -> tuple[str, ...]:
        return "compose", "--project-name", self.name, "--project-directory", str(self.folder)


_PSQL = ("exec", "-T", "database", "psql", "-U", "scorebeat_owner", "-At", "-F", "\t", "scorebeat")


@dataclass(frozen=True)
class Gate:
    """While it is closed, no batch of rows beyond the first ones can be fetched."""

    session: "subprocess.Popen[str]"

    def open(self) -> None:
        """Does nothing if it is open."""
        self.session.communicate()


@contextmanager
def composed(folder: Path) -> Iterator[Composed]:
    """A project of this tree, not started; at the end its containers, networks, volumes and tags are removed."""
    one = Composed(folder, f"scorebeat-{secrets.token_hex(4)}")
    api_ports = wait_for(_two_ports)
    assert api_ports is not None
    filled = EXAMPLE.read_text("utf-8")
    for variable in ("OWNER_PASSWORD", "RUN_PASSWORD", "BROKER_PASSWORD", "API_TOKEN"):
        filled = filled.replace(f"\n{variable}=\n", f"\n{variable}={secrets.token_hex(24)}\n")
    filled = filled.replace("\nFLOWER_LOGIN=\n", f"\nFLOWER_LOGIN=admin:{secrets.token_hex(12)}\n")
    filled += "FLOWER_PORT={}\nAPI_PORT={}-{}\n".format(free_port(), *api_ports)
    (folder / ".env").write_text(filled)
    copy_compose_files(folder, one.image)
    limit = f"services: {{ cpu-worker: {{ cpus: {PROCESSES} }} }}\n"
    (folder / "docker-compose.override.yml").write_text(limit)
    (folder / "project").mkdir()
    (folder / "certificates").mkdir()
    one.use(build())
    try:
        yield one
    finally:
        one.compose("--profile", "cli", "down", "--volumes", "--timeout", "10", check=False)
        tags = docker("images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", f"reference={one.name}:*").split()
        docker("image", "rm", "--force", *tags)


def copy_compose_files(folder: Path, image: str) -> None:
    """docker-compose.yml with this image, and the file that docs add to it."""
    text = (REPOSITORY / "docker-compose.yml").read_text("utf-8")
    assert text.count("image: scorebeat:cpu\n") == 1
    (folder / "docker-compose.yml").write_text(text.replace("image: scorebeat:cpu\n", f"image: {image}\n"), "utf-8")
    (folder / "deploy").mkdir()
    shutil.copy(REPOSITORY / "deploy/compose.servers.yml", folder / "deploy")


def _two_ports() -> tuple[int, int] | None:
    """A free port and the one after it, if that is free as well."""
    first = free_port()
    with socket.socket() as probe:
        free = probe.connect_ex(("127.0.0.1", first + 1)) != 0
    return (first, first + 1) if free else None
