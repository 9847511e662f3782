"""Every package that an installation of Scorebeat brings is in the list of licences, and none is there for nothing."""

import re
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, metadata, requires
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.docs.pages import REPOSITORY

PAGE = REPOSITORY / "docs/reference/licences.md"
ROW = re.compile(r"^\| `([a-z0-9-]+)` \| (\S.*) \|$", re.MULTILINE)


def test_each_required_package_is_in_the_list_with_a_licence() -> None:
    required, listed = (
        {canonicalize_name(Requirement(one).name) for one in named()},
        dict(ROW.findall(PAGE.read_text())),
    )

    assert required - set(listed) == set()


def test_each_package_that_those_bring_is_in_the_list_and_no_other() -> None:
    listed, brought = set(dict(ROW.findall(PAGE.read_text()))), set[str]()
    for one in named():
        bring(Requirement(one), frozenset({""}), brought)

    assert brought - listed == set()
    locked = {line.partition("==")[0] for line in (REPOSITORY / "constraints.txt").read_text().splitlines()}
    assert listed - {canonicalize_name(name) for name in locked} == set()


def test_the_licences_are_those_that_the_packages_state() -> None:
    """Those that state one as SPDX does."""
    stated = {}
    for name in dict(ROW.findall(PAGE.read_text())):
        with suppress(PackageNotFoundError):
            stated[name] = metadata(name).json.get("license_expression")

    known = {name: licence for name, licence in stated.items() if licence}
    assert len(known) > 20
    assert {name: licence for name, licence in ROW.findall(PAGE.read_text()) if name in known} == known


def named() -> Iterator[str]:
    """The requirements of pyproject.toml, without those for work on Scorebeat."""
    project: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    yield from project["dependencies"]
    for extra, requirements in project["optional-dependencies"].items():
        if extra != "dev":
            yield from requirements


def bring(one: Requirement, extras: frozenset[str], brought: set[str]) -> None:
    """Add the package and all that it requires, as far as they are installed here."""
    if one.marker is not None and not any(one.marker.evaluate({"extra": extra}) for extra in extras):
        return
    try:
        further = requires(one.name) or []
    except PackageNotFoundError:
        return
    name = canonicalize_name(one.name)
    if name in brought and not one.extras:
        return
    brought.add(name)
    for each in further:
        bring(Requirement(each), frozenset(one.extras) | {""}, brought)
