"""The Dockerfile keeps the rules of small and safe images; no engine is needed to see that."""

import platform
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from core.settings import PREFIX, Settings
from tests.deploy.dockerfile import DOCKERFILE, REPOSITORY, Stage, stages

TARGETS = ("cpu", "cuda")
LINTER = Path(sys.executable).parent / "hadolint"
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|LOGIN|_URL\b", re.IGNORECASE)
COMPILERS = re.compile(r"build-essential|gcc|g\+\+|clang|cmake|\bmake\b|-dev\b|\bgit\b|\bcurl\b")

each_target = pytest.mark.parametrize("target", TARGETS)


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="the package of hadolint has no program for here"
)
def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run([LINTER, DOCKERFILE], capture_output=True, text=True, check=False, timeout=60)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@each_target
def test_a_container_does_not_run_as_root(target: str) -> None:
    assert re.fullmatch(r"([1-9]\d{3,}):\1", stages()[target].last("USER"))


@each_target
def test_a_signal_reaches_the_program_itself(target: str) -> None:
    stage = stages()[target]

    assert stage.program("ENTRYPOINT") == ["scorebeat"]
    assert stage.program("CMD")[0] == "worker"
    assert stage.last("STOPSIGNAL") == "SIGTERM"
    assert stage.environment["REMAP_SIGTERM"] == "SIGQUIT"


@each_target
def test_a_container_says_whether_it_is_well(target: str) -> None:
    assert re.fullmatch(
        r'(--[a-z-]+=\w+ )+CMD \["scorebeat", "health", "worker"\]', stages()[target].last("HEALTHCHECK")
    )


@each_target
def test_the_last_stage_has_no_compiler_no_pip_and_no_package_lists(target: str) -> None:
    commands = stages()[target].all("RUN")

    assert not [found for command in commands for found in COMPILERS.findall(command)]
    assert all("rm -rf /var/lib/apt/lists/*" in command for command in commands if "apt-get" in command)
    assert any(re.search(r"pip uninstall --yes .*\bpip\b", command) for command in commands)
    assert all(copied.startswith("--from=") for copied in stages()[target].all("COPY"))


@each_target
def test_the_dependencies_are_those_that_were_locked(target: str) -> None:
    (copied,) = stages()[target].all("COPY")
    environment = stages()[copied.split()[0].removeprefix("--from=")]
    installed = [found for run in environment.all("RUN") for found in re.findall(r"pip\b.*?\binstall [^&]*", run)]

    assert installed
    assert all("-c constraints.txt" in command for command in installed), installed


def test_each_base_is_a_slim_image_of_one_version() -> None:
    bases = {stage.base for stage in stages().values()}

    assert all(re.fullmatch(r"python:3\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", base) for base in bases), bases


def test_no_secret_is_baked_in_and_nothing_comes_from_the_network_unasked() -> None:
    for stage in stages().values():
        assert not [line for line in stage.all("ARG") + stage.all("ENV") if SECRET.search(line)]
        assert stage.all("ADD") == []


def test_the_build_sees_what_the_wheel_is_made_of_and_nothing_else() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    files = {"pyproject.toml", "constraints.txt", project["project"]["readme"]}
    ignored = [line for line in (REPOSITORY / ".dockerignore").read_text("utf-8").splitlines() if line[:1] != "#"]
    copied = {word for line in stages()["wheel"].all("COPY") for word in line.split()[:-1]}

    assert ignored[0] == "*"
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == packages | files
    assert copied == packages | files


@each_target
def test_the_image_sets_what_is_a_setting(target: str) -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}

    assert {name for name in stages()[target].environment if name.startswith(PREFIX)} <= known


def test_a_build_without_a_target_is_the_small_image() -> None:
    last: Stage = list(stages().values())[-1]

    assert last.name == "cpu"
