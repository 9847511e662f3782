"""Fixtures that every test may use, and the version of PostgreSQL that they start."""

import gc
import os
import re
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a test starts hundreds of programs: each would compile all modules
sys.dont_write_bytecode = False
gc.disable()  # until all tests are collected: importing makes millions of objects, and nearly no garbage

pytest_plugins = [
    "tests.support.stack_fixtures",
    "tests.support.fixtures",
    "tests.support.cli_fixtures",
    "tests.deploy.wheel",
]


SLOW = (
    "docs/test_commands.py", "contract/test_openapi.py", "deploy/test_kubernetes_burst.py",
    "deploy/test_compose_runs.py", "integration/stack/test_iris.py", "integration/roles/test_secrets.py",
    "contract/test_boosters.py", "fault/test_wrong_night.py", "fault/test_poison_rows.py",
    "integration/scoring/test_devices.py", "integration/stack/test_complaints.py",
    "integration/stack/test_postgres_15.py", "fault/test_read_only_database.py", "deploy/test_kubernetes_setup.py",
)  # fmt: skip
"""Files of more than a minute and few tests: one that begins last keeps a process at work when all others are done."""


GUARANTEES = Path(__file__).parents[1] / "docs" / "guarantees.md"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres",
        choices=["15", "embedded"],
        default="embedded",
        help="the servers that tests start: the embedded stack's, or Debian's PostgreSQL 15",
    )
    parser.addoption(
        "--quick", action="store_true", help="leave out what is marked wide and docs/guarantees.md does not name"
    )
    parser.addoption(
        "--recipes",
        type=Path,
        metavar="FOLDER",
        help="run the recipes for other programs: in this folder each has a virtual environment (make test-recipes)",
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A file of which `--quick` runs nothing is not imported: that is half of the time before the first test."""
    if not config.getoption("--quick") or not collection_path.name.startswith("test_"):
        return None
    text = collection_path.read_text("utf-8")
    is_wide = "\npytestmark = pytest.mark.wide\n" in text and collection_path.stem not in named_tests()
    return True if is_wide and named_tests().isdisjoint(re.findall(r"\btest_\w+", text)) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--quick"):
        if config.args_source is pytest.Config.ArgsSource.TESTPATHS:
            require_guarantees(items)
        left_out = not_quick(items)
        config.hook.pytest_deselected(items=left_out)
        gone = set(map(id, left_out))
        items[:] = [item for item in items if id(item) not in gone]
    if hasattr(config, "workerinput"):  # one process of several, by --no-loadscope-reorder in this order
        items.sort(key=lambda item: not str(item.path).endswith(SLOW))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_configure(config: pytest.Config) -> None:
    threadpool_limits(1)  # several test processes share few cores: threads that wait for each other cost ten times more
    if config.getoption("--postgres") == "15":
        from tests.support import postgres_15  # noqa: PLC0415 -- imports what most sessions do not need

        postgres_15.use()


@cache
def named_tests() -> frozenset[str]:
    """Tests, and files of tests, that docs/guarantees.md names."""
    return frozenset(re.findall(r"`(?:tests/[\w/]*/)?(test_\w+)(?:\.py)?`", GUARANTEES.read_text("utf-8")))


def require_guarantees(items: list[pytest.Item]) -> None:
    """Raises UsageError if a test that docs/guarantees.md names is not among the tests."""
    absent = named_tests() - {name for item in items for name in (item.name.split("[")[0], item.path.stem)}
    if absent:
        raise pytest.UsageError(
            f"docs/guarantees.md names tests that --quick does not find: {', '.join(sorted(absent))}"
        )


def not_quick(items: list[pytest.Item]) -> list[pytest.Item]:
    """Leave out for `--quick`: items marked wide, but each `every`th of a module and those that the page names."""
    seen: Counter[Path] = Counter()
    left_out = []
    for item in items:
        wide = item.get_closest_marker("wide")
        if wide is None or named_tests() & {item.name.split("[")[0], item.path.stem}:
            continue
        every = wide.kwargs.get("every")
        if every is None or seen[item.path] % every:
            left_out.append(item)
        seen[item.path] += 1
    return left_out
