"""Fixtures that every test may use, which tests a speed has, and the version of PostgreSQL that they start."""

import gc
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import hypothesis  # noqa: F401 -- when much is imported already, it takes a second: it looks at all objects
import pytest
from threadpoolctl import threadpool_limits

from scorebeat.models.formats.shared.light_skops import skops_io

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a test starts hundreds of programs: each would compile all modules
sys.dont_write_bytecode = False
gc.disable()  # until all tests are collected: importing makes millions of objects, and nearly no garbage
skops_io()  # before the others import skops, which would import PyTorch: two seconds

pytest_plugins = [
    "tests.support.stack_fixtures",
    "tests.support.fixtures",
    "tests.support.cli_fixtures",
    "tests.deploy.wheel",
]


QUICK, SLOW, WIDE = SPEEDS = ("quick", "slow", "wide")
"""The speeds of tests, and the names of their marks. CONTRIBUTING.md describes them."""

BEGUN_FIRST = (
    "docs/test_commands.py", "contract/test_openapi.py", "integration/stack/test_iris.py",
    "integration/roles/test_secrets.py", "contract/test_boosters.py", "fault/test_wrong_night.py",
    "fault/test_poison_rows.py", "integration/scoring/test_devices.py", "integration/stack/test_complaints.py",
    "integration/stack/test_postgres_15.py", "fault/test_read_only_database.py",
    "fault/test_commit_faults.py", "fault/test_writers_beside_ticks.py", "fault/test_network.py",
)  # fmt: skip
"""Files of more than a minute and few tests: one that begins last keeps a process at work when all others are done."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres",
        choices=["15", "embedded"],
        default="embedded",
        help="the servers that tests start: the embedded stack's, or Debian's PostgreSQL 15",
    )
    parser.addoption(
        "--quick", dest="speed", action="store_const", const=QUICK, help="leave out what is marked slow or wide"
    )
    parser.addoption("--slow", dest="speed", action="store_const", const=SLOW, help="only what is marked slow")
    parser.addoption(
        "--recipes",
        type=Path,
        metavar="FOLDER",
        help="run the recipes for other programs: in this folder each has a virtual environment (make test-recipes)",
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A file without a test of the chosen speed is not imported: that is half of the time before the first test."""
    speed = config.getoption("speed")
    if speed is None or not collection_path.name.startswith("test_"):
        return None
    return True if speed not in possible_speeds(collection_path.read_text("utf-8")) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if speed := config.getoption("speed"):
        left_out = [item for item, its_speed in zip(items, speeds(items), strict=True) if its_speed != speed]
        config.hook.pytest_deselected(items=left_out)
        gone = set(map(id, left_out))
        items[:] = [item for item in items if id(item) not in gone]
    if hasattr(config, "workerinput"):  # one process of several, by --no-loadscope-reorder in this order
        items.sort(key=lambda item: not str(item.path).endswith(BEGUN_FIRST))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_configure(config: pytest.Config) -> None:
    threadpool_limits(1)  # several test processes share few cores: threads that wait for each other cost ten times more
    if config.getoption("--postgres") == "15":
        from tests.support import postgres_15  # noqa: PLC0415 -- imports what most sessions do not need

        postgres_15.use()


def possible_speeds(text: str) -> set[str]:
    """The speeds that tests of a file with this text may have; some may be too many."""
    named = set(re.findall(rf"\b({'|'.join(SPEEDS)})\b", text))
    all_marked = re.search(rf"^pytestmark = pytest\.mark\.({SLOW}|{WIDE})\b", text, re.MULTILINE)
    return named if all_marked else named | {QUICK}


def speeds(items: Iterable[pytest.Item]) -> list[str]:
    """The speed of each item, by the nearest mark: of the case, its function or its file. Without one it is quick.

    Of the cases that share a mark such as `wide(slow=10)`, each tenth is slow and the others are wide.
    """
    seen: Counter[int] = Counter()
    found = []
    for item in items:
        marks = [mark for node in item.iter_parents() for mark in reversed(node.own_markers) if mark.name in SPEEDS]
        mark = marks[0] if marks else None
        number = seen[id(mark)]
        seen[id(mark)] += 1
        every = mark.kwargs if mark else {}
        exception = next((speed for speed in SPEEDS if speed in every and number % every[speed] == 0), None)
        found.append(exception or (mark.name if mark else QUICK))
    return found
