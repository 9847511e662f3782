"""Every event that the program reports is in its reference page, with fields that it has, and no other."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
ROOMS = ("core", "broker", "db", "models", "producer", "worker", "online", "ops", "monitor", "client", "api")
PAGE = REPOSITORY / "docs/reference/events.md"
ROW = re.compile(r"^\| `([a-z_.]+)` \| (.*?) \|", re.MULTILINE)
NAME = re.compile(r"[a-z]+\.[a-z_]+")
OF_THE_LOG = {"level", "exc"}


@cache
def emitted() -> list[tuple[str, set[str]]]:
    """Name and fields of each call of `emit`."""
    return [call for room in ROOMS for file in (REPOSITORY / room).rglob("*.py") for call in _calls(file)]


def test_every_event_is_in_its_reference_page_with_the_fields_of_each_call() -> None:
    documented = {name: set(re.findall(r"`(\w+)`", fields)) for name, fields in ROW.findall(PAGE.read_text("utf-8"))}
    passed: dict[str, list[set[str]]] = defaultdict(list)
    for name, fields in emitted():
        passed[name].append(fields)

    assert sorted(documented) == sorted(passed)
    lacking = {name: documented[name] - set[str].intersection(*calls) for name, calls in passed.items()}
    assert {name: fields for name, fields in lacking.items() if fields} == {}


def test_an_event_is_named_by_its_noun_and_what_happened_and_identifies_its_thing() -> None:
    for name, fields in emitted():
        assert NAME.fullmatch(name), name
        noun = name.partition(".")[0]
        if noun in ("run", "batch", "row", "rows", "plan", "notice"):
            assert "run" in fields, name
        if noun in ("batch", "claim", "row", "rows"):
            assert "batch" in fields, name


def _calls(file: Path) -> Iterator[tuple[str, set[str]]]:
    text = file.read_text("utf-8")
    for node in ast.walk(ast.parse(text)) if "emit" in text else ():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "emit":
            (first, *_) = node.args
            assert isinstance(first, ast.Constant), f"{file}:{node.lineno}: its event's name is no constant"
            yield str(first.value), {str(k.arg) for k in node.keywords} - OF_THE_LOG
