"""requirements/*.txt: images install the versions of constraints.txt, and no file but those that were locked."""

import re
import tomllib
from importlib.metadata import distribution, version

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.hashed import BUILD, FOLDER, REPOSITORY, SERVERS, entries

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = {name: requirements for name, requirements in PROJECT["optional-dependencies"].items() if name != "dev"}
FILES = {path.stem: path.read_text("utf-8") for path in FOLDER.glob("*.txt")}
OF_CUDA = re.compile(r"nvidia-|cuda-|triton")
"""Packages that PyTorch's wheel names at one version each: constraints.txt leaves them to it."""

each_file = pytest.mark.parametrize("name", ["base", "build", *EXTRAS])


def pins(name: str) -> dict[str, str]:
    """The version of each package of the file."""
    return {package: one.split()[0].partition("==")[2] for package, one in entries(FILES[name]).items()}


def used_here(name: str) -> set[str]:
    """Packages of the file that this Python needs; others are for older ones."""
    lines = {package: one.split(" \\\n")[0] for package, one in entries(FILES[name]).items()}
    return {package for package, line in lines.items() if (m := Requirement(line).marker) is None or m.evaluate()}


def locked() -> dict[str, str]:
    lines = (REPOSITORY / "constraints.txt").read_text("utf-8").splitlines()
    return {canonicalize_name(name): at for name, _, at in (line.partition("==") for line in lines)}


def test_there_is_a_file_for_each_extra_that_an_image_can_have() -> None:
    assert set(FILES) == {"base", "build", *EXTRAS}


@each_file
def test_each_package_has_its_version_in_constraints(name: str) -> None:
    elsewhere = set(pins(name)) - used_here(name)
    known = locked() | {p: at for p, at in pins(name).items() if OF_CUDA.match(p) or p in elsewhere}

    assert {package: known.get(package) for package in pins(name)} == pins(name)


@each_file
def test_each_package_has_hashes_and_no_line_names_its_origin(name: str) -> None:
    for package, one in entries(FILES[name]).items():
        first, *hashes = one.split(" \\\n")
        assert re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; [^;\\]+)?", first), first
        assert hashes, package
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}", line) for line in hashes), package


@pytest.mark.parametrize("name", ["base", *EXTRAS])
def test_every_requirement_of_the_project_but_the_servers_is_in_the_file(name: str) -> None:
    requirements = PROJECT["dependencies"] if name == "base" else EXTRAS[name]
    have = pins("base") | pins(name)

    missing = {canonicalize_name(Requirement(one).name) for one in requirements} - set(have)
    assert missing == (set(SERVERS) if name == "base" else set())
    for one in map(Requirement, requirements):
        if one.name not in missing:
            assert one.specifier.contains(have[canonicalize_name(one.name)]), one


def test_the_packages_that_a_package_needs_are_in_the_file_too() -> None:
    """By the metadata of the packages, which are installed here at the same versions."""
    have = pins("base")
    for package in used_here("base"):
        assert version(package) == have[package]
        for needed in map(Requirement, distribution(package).requires or []):
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                assert needed.specifier.contains(have[canonicalize_name(needed.name)]), (package, str(needed))


def test_the_tools_that_build_the_wheel_are_locked() -> None:
    assert list(pins("build")) == [BUILD]
