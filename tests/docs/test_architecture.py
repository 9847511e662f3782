"""The page on the architecture lists the rooms that import-linter checks, and the modules that it cannot check."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tests.docs.pages import REPOSITORY

PAGE = REPOSITORY / "docs/architecture.md"
FOLDERS = (
    "api", "broker", "client", "core", "db", "drift", "examples", "models", "monitor", "online", "ops", "producer",
    "src", "worker",
)  # fmt: skip
MODULE = re.compile(r"scorebeat((?:\.\w+)+)(?::\w+)?")


def test_the_rooms_of_the_page_are_those_of_the_contracts() -> None:
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    checked = {
        container.removeprefix("scorebeat.").replace(".", "/"): [
            set(re.findall(r"\w+", layer)) for layer in one["layers"]
        ]
        for one in contracts
        for container in one["containers"]
        if container != "scorebeat"  # the floors, which are drawn
    }

    listed = {
        _in_code(folder)[0]: [set(_in_code(layer)) for layer in rooms.split("→")]
        for folder, rooms in _table("| Folder | Rooms and modules |")
    }

    assert listed == checked


def test_every_floor_of_the_contracts_is_drawn() -> None:
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    floors = next(one["layers"] for one in contracts if one["containers"] == ["scorebeat"])

    drawn = re.findall(r'^ +(\w+)\["\1: ', PAGE.read_text("utf-8"), re.MULTILINE)

    assert sorted(drawn) == sorted(re.findall(r"\w+", " ".join(floors)))


def test_every_file_that_names_a_module_in_a_string_is_listed_with_its_reason() -> None:
    rows = _table("| File | What it names | Why |")
    listed = {file for files, _, why in rows if why for file in _in_code(files)}
    folders = tuple(file for file in listed if file.endswith("/"))
    found = {
        next((folder for folder in folders if name.startswith(folder)), name)
        for top in FOLDERS
        for file in sorted((REPOSITORY / top).rglob("*.py"))
        if any(_named_modules(file)) and (name := str(file.relative_to(REPOSITORY)))
    }

    assert found == listed


def _table(heading: str) -> list[list[str]]:
    """The cells of each row of the table with this heading."""
    rows = PAGE.read_text("utf-8").split(f"{heading}\n")[1].split("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def _in_code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def _named_modules(file: Path) -> Iterator[str]:
    """Calls that import by a name, and strings that are the name of a module of Scorebeat."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            if called in ("import_module", "__import__"):
                yield called
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            match = MODULE.fullmatch(node.value)
            if match and _is_module(match[1].lstrip(".").replace(".", "/")):
                yield node.value


def _is_module(path: str) -> bool:
    return (REPOSITORY / f"{path}.py").is_file() or (REPOSITORY / path / "__init__.py").is_file()
