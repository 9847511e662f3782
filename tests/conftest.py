"""Fixtures that every test may use, and the version of PostgreSQL that they start."""

import os
import re
from collections import Counter
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a test starts hundreds of programs: each would compile all modules

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--quick"):
        left_out = not_quick(items, GUARANTEES.read_text("utf-8"))
        config.hook.pytest_deselected(items=left_out)
        gone = set(map(id, left_out))
        items[:] = [item for item in items if id(item) not in gone]
    if hasattr(config, "workerinput"):  # one process of several, by --no-loadscope-reorder in this order
        items.sort(key=lambda item: not str(item.path).endswith(SLOW))


def pytest_configure(config: pytest.Config) -> None:
    threadpool_limits(1)  # several test processes share few cores: threads that wait for each other cost ten times more
    if config.getoption("--postgres") == "15":
        from tests.support import postgres_15  # noqa: PLC0415 -- imports what most sessions do not need

        postgres_15.use()


def not_quick(items: list[pytest.Item], guarantees: str) -> list[pytest.Item]:
    """What `--quick` leaves out: items marked wide, but each `every`th of a module, and those that the page names."""
    named = set(re.findall(r"`(?:tests/[\w/]*/)?(test_\w+)(?:\.py)?`", guarantees))
    seen: Counter[Path] = Counter()
    left_out = []
    for item in items:
        wide = item.get_closest_marker("wide")
        if wide is None or named & {item.name.split("[")[0], item.path.stem}:
            continue
        every = wide.kwargs.get("every")
        if every is None or seen[item.path] % every:
            left_out.append(item)
        seen[item.path] += 1
    return left_out
