"""Fixtures that every test may use, and the version of PostgreSQL that they start."""

import os

import pytest
from threadpoolctl import threadpool_limits

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a test starts hundreds of programs: each would compile all modules

pytest_plugins = ["tests.stack_fixtures", "tests.fixtures", "tests.cli_fixtures", "tests.deploy.wheel"]


SLOW = (
    "docs/test_commands.py", "contract/test_openapi.py", "deploy/test_kubernetes_burst.py",
    "deploy/test_compose_runs.py", "integration/test_iris.py", "integration/test_secrets.py",
    "contract/test_boosters.py", "fault/test_wrong_night.py", "fault/test_poison_rows.py",
    "integration/test_devices.py", "integration/test_complaints.py", "integration/test_postgres_15.py",
    "fault/test_read_only_database.py", "deploy/test_kubernetes_setup.py",
)  # fmt: skip
"""Files of more than a minute and few tests: one that begins last keeps a process at work when all others are done."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres",
        choices=["15", "embedded"],
        default="embedded",
        help="the servers that tests start: the embedded stack's, or Debian's PostgreSQL 15",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # one process of several, by --no-loadscope-reorder in this order
        items.sort(key=lambda item: not str(item.path).endswith(SLOW))


def pytest_configure(config: pytest.Config) -> None:
    threadpool_limits(1)  # several test processes share few cores: threads that wait for each other cost ten times more
    if config.getoption("--postgres") == "15":
        from tests import postgres_15  # noqa: PLC0415 -- imports what most sessions do not need

        postgres_15.use()
