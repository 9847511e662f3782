"""The page of private parts names every one that can be found in the code, and tests that there are."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import NamedTuple

import pytest

from tests.docs.pages import REPOSITORY, titles_of_tests
from tests.docs.private_parts import PAGE, ROWS, Row

PRODUCT = [
    *sorted((REPOSITORY / "src/scorebeat").glob("*.py")),
    *sorted(
        path
        for folder in (REPOSITORY / "src/scorebeat").iterdir()
        if folder.is_dir() and folder.name not in ("examples", "__pycache__")
        for path in folder.resolve().rglob("*.py")
    ),
]
INTERNALS = ("celery", "kombu", "flower", "uvicorn")
"""Of whose classes every method that is overridden is named, whatever it is called."""
DOCUMENTED = ("celery.bootsteps",)
"""But not of these, which are meant to be extended so."""
USUAL = frozenset(("initialize", "__init__", "__eq__", "__hash__", "__reduce__", "__str__", "__repr__"))
PYTHONS = frozenset(("_exit",))
"""Private by their names, and documented by Python."""
POSTGRESQL = re.compile(r"_(int[248]|float[48]|numeric|text|varchar)")
"""Its own names of arrays of these types."""
PRIVATE = re.compile(r"_[A-Za-z]\w*")


class Found(NamedTuple):
    """Something private of others in a file of ours."""

    file: str
    name: str


Nodes = list[ast.AST]
"""All of a file's."""


@cache
def files() -> dict[str, Nodes]:
    """By name; read when a test needs them, and not by each process that collects tests."""
    return {str(path.relative_to(REPOSITORY)): list(ast.walk(ast.parse(path.read_text("utf-8")))) for path in PRODUCT}


@pytest.mark.slow
def test_every_private_part_that_the_code_uses_is_on_the_page() -> None:
    looks = (_attributes, _imports, _replaced, _overridden, _by_text)
    found = {one for file, nodes in files().items() for look in looks for one in look(file, nodes)}
    missing = [f"{one.name} in {one.file}" for one in sorted(found) if not any(_is_named(row, one) for row in ROWS)]

    assert len(found) > 50
    assert missing == [], f"name in {PAGE.name}, each with its reason and a test: {'; '.join(missing)}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.names[0][:60] if row.names else "plain words")
def test_each_row_of_the_page_has_files_that_use_it_and_tests_that_there_are(row: Row) -> None:
    texts = [
        path.read_text("utf-8")
        for listed in row.paths
        for path in ((REPOSITORY / listed).rglob("*.py") if listed.endswith("/") else [REPOSITORY / listed])
    ]
    used = [name.rpartition(".")[2] for name in row.names if PRIVATE.fullmatch(name.rpartition(".")[2])]

    assert row.paths
    assert texts
    assert [name for name in used if not any(name in text for text in texts)] == []
    assert row.tests
    assert [name for name in row.tests if name not in titles_of_tests()] == []


def _is_named(row: Row, found: Found) -> bool:
    """By its last word, in a row of that file or folder."""
    is_here = any(
        found.file == listed or (listed.endswith("/") and found.file.startswith(listed)) for listed in row.paths
    )
    return is_here and any(found.name in re.findall(r"\w+", name) for name in row.names)


def _attributes(file: str, nodes: Nodes) -> Iterator[Found]:
    """Private attributes that no class, function or module of the product defines."""
    others = _imported(nodes)
    for node in nodes:
        if isinstance(node, ast.Attribute) and PRIVATE.fullmatch(node.attr) and node.attr not in PYTHONS:
            is_super = isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "super"
            if is_super or node.attr not in own_names() or _root(node) in others:
                yield Found(file, node.attr)


def _imports(file: str, nodes: Nodes) -> Iterator[Found]:
    for node in nodes:
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith("scorebeat"):
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [part for alias in node.names for part in alias.name.split(".")]
        yield from (Found(file, name) for name in names if PRIVATE.fullmatch(name))


def _replaced(file: str, nodes: Nodes) -> Iterator[Found]:
    """Something put into a module or class of others: an attribute, an item, or the result of `update` and its like."""
    others = {
        name for name, origin in _imported(nodes).items() if origin.partition(".")[0] not in sys.stdlib_module_names
    }
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del) and _root(node) in others:
            yield Found(file, node.attr)
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del) and _root(node) in others:
            yield Found(file, ast.unparse(node.value).rpartition(".")[2])
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _root(node.func) in others:
            if node.func.attr in ("update", "pop", "append", "insert", "extend", "setdefault", "clear", "remove"):
                yield Found(file, ast.unparse(node.func.value).rpartition(".")[2])
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("setattr", "delattr")
            and _root(node.args[0]) in others
        ):
            yield Found(file, ast.literal_eval(node.args[1]))


def _overridden(file: str, nodes: Nodes) -> Iterator[Found]:
    """Methods of a class of others that one of ours has too."""
    imported = _imported(nodes)
    for node in nodes:
        if not isinstance(node, ast.ClassDef):
            continue
        own = [each.name for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
        for base in node.bases:
            origin = imported.get(_root(base) or "", "")
            if origin.partition(".")[0] in sys.stdlib_module_names or not origin:
                continue
            kind = _resolved(origin, ast.unparse(base))
            is_internal = origin.partition(".")[0] in INTERNALS and origin not in DOCUMENTED
            named = [name for name in own if name not in USUAL and hasattr(kind, name)]
            yield from (Found(file, name) for name in named if is_internal or name.startswith("_"))


def _by_text(file: str, nodes: Nodes) -> Iterator[Found]:
    """Private names in texts, by which getattr finds them."""
    parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in nodes:
        if id(node) in parts:
            continue
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.fullmatch(r"_[a-z]\w*[^\W_]", node.value)
            and not POSTGRESQL.fullmatch(node.value)
        ):
            yield Found(file, node.value)


def _imported(nodes: Nodes) -> dict[str, str]:
    """Names in a file, and where they come from, of what is not ours."""
    found: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {
                alias.asname or alias.name.partition(".")[0]: alias.name
                if alias.asname
                else alias.name.partition(".")[0]
                for alias in node.names
            }
    return {name: origin for name, origin in found.items() if origin.partition(".")[0] != "scorebeat"}


def _root(node: ast.AST) -> str | None:
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def _resolved(origin: str, written: str) -> object:
    """The class that a base names: `celery.bootsteps` and `bootsteps.StartStopStep` is one."""
    module, _, name = origin.rpartition(".")
    found: object = getattr(import_module(module), name, None) if module else import_module(name)
    found = found if found is not None else import_module(origin)
    for part in written.split(".")[1:]:
        found = getattr(found, part)
    return found


def _own(nodes: Nodes) -> Iterator[str]:
    """Names that a file of ours defines."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _root(node) in ("self", "cls"):
            yield node.attr


@cache
def own_names() -> set[str]:
    return {name for nodes in files().values() for name in _own(nodes)}
