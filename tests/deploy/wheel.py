"""The wheel as its users get it: built from this tree, and installed in a new virtual environment."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
NAME = "scorebeat"
ROOMS = (
    "api", "broker", "client", "core", "db", "drift", "examples", "models", "monitor", "online", "ops", "producer",
    "worker",
)  # fmt: skip
"""Folders of the repository, each of which is a part of the one package."""
SOURCES = ("README.md", "pyproject.toml", "src", *ROOMS)
TOOLS = ("pip", "setuptools")
"""Packages that a new environment has only if something needs them."""


@dataclass(frozen=True)
class Installed:
    """A virtual environment that has the wheel, and nothing of the source tree."""

    folder: Path

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    @property
    def python(self) -> Path:
        return self.bin / "python"

    @property
    def packages(self) -> Path:
        """The folder that the wheel was unpacked into."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.folder / "lib" / version / "site-packages"

    def environment(self, **more: str) -> dict[str, str]:
        """The variables that a program of it needs: `PATH`, `HOME` and these variables."""
        path = os.pathsep.join((str(self.bin), "/usr/bin", "/bin"))
        return {"PATH": path, "HOME": str(self.folder), **more}

    def run(
        self, *command: str, cwd: Path, environment: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """One program of it to its end, such as `scorebeat --help`; `options` are those of `subprocess.run`."""
        arguments = {"capture_output": True, "text": True, "timeout": 120, **options}
        whole = self.environment(**(environment or {}))
        program = self.bin / command[0]
        return subprocess.run([program, *command[1:]], cwd=cwd, env=whole, check=False, **arguments)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built once a session."""
    return build(tmp_path_factory.mktemp("wheel"))


def build(folder: Path) -> Path:
    """Build it into the folder from a copy of its sources, beside which setuptools writes; returns its path."""
    source = folder / "source"
    for name in SOURCES:
        here, there = REPOSITORY / name, source / name
        there.parent.mkdir(parents=True, exist_ok=True)
        if here.is_dir():
            shutil.copytree(here, there, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(here, there)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--no-build-isolation", "--wheel-dir", str(folder), str(source)]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("*.whl")
    return made


def install(wheel: Path, folder: Path, without: Collection[str] = ()) -> Installed:
    """A new environment with the wheel in it, installed by pip.

    Its dependencies are those of the running environment, linked one by one, so that nothing is downloaded and the
    source tree cannot be imported; the distributions `without` are left out.
    """
    venv.create(folder, symlinks=True)
    installed = Installed(folder)
    left_out = {name for one in (NAME, *TOOLS, *without) for name in _files_of(one)}
    there = Path(sysconfig.get_path("purelib"))
    for found in there.iterdir():
        if found.name not in left_out and found.suffix != ".pth" and found.name != "__pycache__":
            (installed.packages / found.name).symlink_to(found)
    quiet = ("--quiet", "--disable-pip-version-check", "--no-index", "--no-deps")
    command = [sys.executable, "-m", "pip", "--python", str(folder), "install", *quiet, str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return installed


def _files_of(name: str) -> Iterator[str]:
    """The first folder of each file of a distribution, such as `pip` and `pip-26.1.dist-info`."""
    try:
        files = distribution(name).files or ()
    except PackageNotFoundError:
        return
    yield from {file.parts[0] for file in files}
