"""The Dockerfile keeps the rules of small and safe images; no engine is needed to see that."""

import platform
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.deploy.compose import EXAMPLE, SECRETS, read
from tests.deploy.dockerfile import DOCKERFILE, REPOSITORY, Stage, stages
from tests.deploy.hashed import FOLDER, entries
from tests.deploy.known import unknown
from tests.deploy.locked import locked
from tests.deploy.wheel import ROOMS

TARGETS = ("cpu", "cuda")
LINTER = Path(sys.executable).parent / "hadolint"
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|LOGIN|_URL\b", re.IGNORECASE)
COMPILERS = re.compile(r"build-essential|gcc|g\+\+|clang|cmake|\bmake\b|-dev\b|\bgit\b|\bcurl\b")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = {name: requirements for name, requirements in PROJECT["optional-dependencies"].items() if name != "dev"}
LEFT_OPEN = {"setuptools", "cuda-bindings", "cuda-pathfinder", "nvidia-nvjitlink", "nvidia-nccl-cu12"}
"""Packages that PyTorch's and XGBoost's wheels for GPUs require at any version."""

each_target = pytest.mark.parametrize("target", TARGETS)


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="the package of hadolint has no program for here"
)
def test_hadolint_reports_nothing() -> None:
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
def test_a_container_reports_whether_it_is_healthy(target: str) -> None:
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
    dependencies, product = (_installed(stage) for stage in _copied(target))

    assert [command.split()[-1] for command in dependencies] == ["/locked.txt"]
    *build, own = product
    assert all("--no-deps --require-hashes -r " in command for command in (*dependencies, *build))
    assert own.split()[-3:] == ["--no-deps", "--no-index", "/dist/*.whl"], "built here, from this tree"


def _copied(target: str) -> list[Stage]:
    """The stages that the image is put together from, in their order."""
    return [stages()[line.split()[0].removeprefix("--from=")] for line in stages()[target].all("COPY")]


def _installed(stage: Stage) -> list[str]:
    return [found for run in stage.all("RUN") for found in re.findall(r"pip\b.*?\binstall [^&]*", run)]


@each_target
def test_no_layer_of_dependencies_is_made_from_a_source_of_the_project(target: str) -> None:
    environment, product = _copied(target)

    assert environment.all("COPY") == ["requirements requirements"]
    assert (environment.name, product.name) == (f"{target}-environment", "product")


@each_target
def test_no_program_takes_the_rights_of_another_user(target: str) -> None:
    (cleaned,) = [run for run in stages()[target].all("RUN") if "apt-get install" in run]

    assert cleaned.endswith("find / -xdev -type f -perm /6000 -exec chmod a-s {} +")


def test_packages_that_an_image_gets_by_extras_are_locked_too() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text("utf-8").splitlines()
    pinned = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}
    requirements = [Requirement(one) for extra in EXTRAS.values() for one in extra]

    assert {
        one.name for one in requirements if pinned.get(canonicalize_name(one.name), "none") not in one.specifier
    } == set()
    assert set(pinned) >= LEFT_OPEN
    assert all(pinned.values()), "each at one version"


def test_the_example_names_all_extras_of_images() -> None:
    text = " ".join(EXAMPLE.read_text("utf-8").replace("\n#", "").split())
    listed = re.search(r"scikit-learn and ONNX: ([\w, ]+);.*: ([\w, ]+); with commas", text)

    assert listed is not None
    assert sorted(", ".join(listed.groups()).split(", ")) == sorted(EXTRAS)


def test_a_report_of_pip_becomes_constraints() -> None:
    names = [("scorebeat", "0.1.0"), ("torch", "2.13.0+cpu"), ("s3fs", "2026.9.0")]
    report = {"install": [{"metadata": {"name": name, "version": version}} for name, version in names]}

    assert list(locked(report)) == ["torch==2.13.0", "s3fs==2026.9.0"]


def test_all_stages_are_made_from_one_slim_image_of_one_version() -> None:
    (base,) = {stage.base for stage in stages().values()}  # an environment runs where it was made only

    assert re.fullmatch(r"python:3\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", base)


def test_no_secret_is_baked_in_and_nothing_comes_from_the_network_unasked() -> None:
    for stage in stages().values():
        assert not [line for line in stage.all("ARG") + stage.all("ENV") if SECRET.search(line)]
        assert stage.all("ADD") == []


def test_the_build_sees_what_the_wheel_is_made_of_and_nothing_else() -> None:
    packages = {"src", *ROOMS}
    files = {"pyproject.toml", "requirements", "README.md"}
    ignored = [line for line in (REPOSITORY / ".dockerignore").read_text("utf-8").splitlines() if line[:1] != "#"]
    copied = {word for line in stages()["product"].all("COPY") for word in line.split()[:-1]}

    assert ignored[0] == "*"
    assert {line.removeprefix("!") for line in ignored[1:] if line.startswith("!")} == packages | files
    assert [line for line in ignored[1:] if not line.startswith("!")] == ["**/__pycache__"], "all else is the wheel's"
    assert copied == packages | files


@pytest.mark.parametrize(("target", "names"), [("cpu", ["base"]), ("cuda", ["base", "torch"])])
def test_each_image_has_the_packages_of_its_own_device(target: str, names: list[str]) -> None:
    made_in, _ = _copied(target)

    (line,) = re.findall(r"(\(IFS.*\)) > /locked\.txt", made_in.all("RUN")[-1])
    for extras in ("", "s3", "gs,azure"):
        done = subprocess.run(
            ["/bin/sh", "-c", line], cwd=REPOSITORY, env={"EXTRAS": extras}, capture_output=True, text=True, check=True
        )
        wanted = [*names, *filter(None, extras.split(","))]
        assert done.stdout == "".join((FOLDER / f"{name}.txt").read_text("utf-8") for name in wanted)
    unknown_extra = subprocess.run(
        ["/bin/sh", "-c", line], cwd=REPOSITORY, env={"EXTRAS": "s4"}, capture_output=True, check=False
    )
    assert unknown_extra.returncode == 1


def test_the_tools_that_build_the_wheel_are_installed_before_it_is_built() -> None:
    backend = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["build-system"]["requires"]
    _, first, *others = stages()["product"].all("RUN")

    assert first.split()[-1] == "requirements/build.txt", first
    assert [Requirement(one).name for one in backend] == list(entries((FOLDER / "build.txt").read_text("utf-8")))
    assert "--no-build-isolation" in others[-1]


def test_python_is_one_that_the_package_takes() -> None:
    for stage in stages().values():
        version = re.match(r"python:([\d.]+)-", stage.base)
        assert version is not None
        assert SpecifierSet(PROJECT["requires-python"]).contains(version[1])


@each_target
def test_the_system_libraries_that_wheels_expect_are_there(target: str) -> None:
    (installed,) = [run for run in stages()[target].all("RUN") if "apt-get install" in run]

    assert re.search(r"\blibgomp1\b", installed), "LightGBM's"


@each_target
def test_the_image_sets_what_is_a_setting(target: str) -> None:
    assert unknown(set(stages()[target].environment)) == set()


@each_target
def test_the_installed_environment_has_the_path_it_was_made_at_and_is_found_first(target: str) -> None:
    paths = {path for line in stages()[target].all("COPY") for path in line.split()[1:]}
    (path,) = paths
    for stage in _copied(target):
        (made,) = [line for line in stage.all("RUN") if "python -m venv" in line]
        assert made.endswith(f" {path}")
        assert set(re.findall(r"pip --python (\S+)", " ".join(stage.all("RUN")))) == {path}
    assert stages()[target].environment["PATH"].split(":")[0] == f"{path}/bin"


@each_target
def test_its_folders_belong_to_who_runs_it(target: str) -> None:
    stage = stages()[target]
    (made,) = [line for line in stage.all("RUN") if "useradd" in line]
    folders = re.findall(r"install --directory --owner (\w+) --group \1 ([\w/ ]+)", made)
    project = str(Path(stage.environment["SCOREBEAT_JOBS"]).parent)
    mounted = {path for one in read(dict.fromkeys(SECRETS, "x")).ours for path in one.mounts}
    mounted -= {"/etc/scorebeat"}  # certificates, which nothing writes

    assert re.findall(r"useradd --uid (\d+) .* scorebeat\b", made) == [stage.last("USER").split(":")[0]]
    assert [owner for owner, _ in folders] == ["scorebeat"]
    needed = {stage.last("WORKDIR"), stage.environment["SCOREBEAT_ARTIFACTS"], project} | mounted
    assert needed == set(folders[0][1].split())


@each_target
def test_a_program_keeps_its_files_on_a_writable_path(target: str) -> None:
    environment = stages()[target].environment

    assert environment["HOME"] == "/tmp"  # noqa: S108 -- the container's own
    assert environment["SCOREBEAT_CACHE"].startswith("/tmp/")  # noqa: S108 -- as above


def test_a_build_without_a_target_is_the_small_image() -> None:
    last: Stage = list(stages().values())[-1]

    assert last.name == "cpu"
