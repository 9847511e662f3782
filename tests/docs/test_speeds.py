"""`make test`, `make test-slow` and `make test-all` run tests by their speed; each guarantee has a quick one."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import pytest

from tests.conftest import QUICK, SLOW, SPEEDS, WIDE, possible_speeds, speeds
from tests.docs.pages import REPOSITORY, titles_of_tests

GUARANTEES = dict(
    re.findall(r"^## (.+)\n((?:(?!## ).*\n)+)", (REPOSITORY / "docs/guarantees.md").read_text("utf-8"), re.MULTILINE)
)
"""The text of each section."""
NO_PROMISE = "What is not promised"


def named_in(text: str) -> set[str]:
    """Tests, and files of tests."""
    return set(re.findall(r"`(?:tests/[\w/]*/)?(test_\w+)(?:\.py)?`", text))


NAMED = {name for text in GUARANTEES.values() for name in named_in(text)}


class Node:
    """What the rule reads of a test, or of its file, that pytest collected."""

    def __init__(self, *marks: Any, parent: "Node | None" = None) -> None:
        self.own_markers = marks
        self._parent = parent

    def iter_parents(self) -> Iterator["Node"]:
        yield self
        if self._parent:
            yield from self._parent.iter_parents()


def found(*tests: Node) -> list[Any]:
    return list(tests)


def test_the_nearest_mark_decides_and_a_test_without_one_is_quick() -> None:
    wide, slow, quick = pytest.mark.wide.mark, pytest.mark.slow.mark, pytest.mark.quick.mark
    file = Node(wide)
    tests = found(
        Node(),
        Node(parent=file),
        Node(slow, pytest.mark.timeout(5).mark, parent=file),
        Node(quick, parent=file),
        Node(slow, quick, parent=file),  # the function's, and that of one of its cases
    )

    assert speeds(tests) == [QUICK, WIDE, SLOW, QUICK, QUICK]


def test_each_nth_case_of_a_mark_may_have_another_speed() -> None:
    cases, others = pytest.mark.wide(quick=6, slow=3).mark, pytest.mark.slow.mark
    tests = [Node(cases) if number % 2 == 0 else Node(others) for number in range(15)]

    assert speeds(found(*tests))[::2] == [QUICK, WIDE, WIDE, SLOW, WIDE, WIDE, QUICK, WIDE]


@pytest.mark.parametrize(
    ("text", "possible"),
    [
        ("def test_a(): ...", {QUICK}),
        ("@pytest.mark.slow\ndef test_a(): ...", {QUICK, SLOW}),
        ("pytestmark = pytest.mark.wide\n\ndef test_a(): ...", {WIDE}),
        ("pytestmark = pytest.mark.wide(slow=10)\n\ndef test_a(): ...", {WIDE, SLOW}),
        ("pytestmark = pytest.mark.slow\n\n@pytest.mark.quick\ndef test_a(): ...", {QUICK, SLOW}),
    ],
)
def test_a_file_is_not_imported_for_a_speed_that_no_test_of_it_can_have(text: str, possible: set[str]) -> None:
    assert possible_speeds(text) == possible


@pytest.mark.parametrize("title", sorted(GUARANTEES.keys() - {NO_PROMISE}))
def test_make_test_shows_each_guarantee_and_ci_runs_all_tests_that_the_page_names(title: str) -> None:
    named = named_in(GUARANTEES[title])
    its_speeds = [speed for name in named for speed in speeds_by_name().get(name, set())]

    assert named
    assert named <= titles_of_tests(), "there is no such test"
    assert QUICK in its_speeds, "not one of its tests runs with make test"
    for name in named:
        assert speeds_by_name()[name] - {WIDE}, f"{name} is run by make test-all only"


def test_ci_runs_quick_and_slow_tests_even_if_one_of_the_two_fails() -> None:
    assert "make --keep-going test test-slow" in (REPOSITORY / ".ci/run").read_text("utf-8").splitlines()


@cache
def speeds_by_name() -> dict[str, set[str]]:
    """The speeds of each test that the page names, or of all tests of a file that it names."""
    by_name: dict[str, set[str]] = defaultdict(set)
    for path in (REPOSITORY / "tests").rglob("test_*.py"):
        text = path.read_text("utf-8")
        if NAMED.isdisjoint([path.stem, *re.findall(r"def (test_\w+)", text)]):
            continue
        tree = ast.parse(text)
        of_file = [
            line.value for line in tree.body if isinstance(line, ast.Assign) and "pytestmark" in ast.unparse(line)
        ]
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
                # which cases of a file are its exceptions, only pytest knows
                own = words(function.decorator_list) or words(of_file)[:1] or [QUICK]
                by_name[function.name].update(own)
                by_name[path.stem].update(own)
    return by_name


def words(marks: Iterable[ast.expr]) -> list[str]:
    """The words of marks of speed: `wide` and `quick` for `pytest.mark.wide(quick=10)`."""
    of_speed = [mark for one in marks if re.match(rf"pytest\.mark\.({'|'.join(SPEEDS)})\b", mark := ast.unparse(one))]
    return re.findall(r"\w+", " ".join(of_speed).replace("pytest.mark.", ""))
