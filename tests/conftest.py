"""Fixtures that every test may use, and the version of PostgreSQL that they start."""

import os

import pytest
from threadpoolctl import threadpool_limits

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a test starts hundreds of programs: each would compile all modules

pytest_plugins = ["tests.stack_fixtures", "tests.fixtures", "tests.cli_fixtures", "tests.deploy.wheel"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres",
        choices=["15", "embedded"],
        default="embedded",
        help="the servers that tests start: the embedded stack's, or Debian's PostgreSQL 15",
    )


def pytest_configure(config: pytest.Config) -> None:
    threadpool_limits(1)  # several test processes share few cores: threads that wait for each other cost ten times more
    if config.getoption("--postgres") == "15":
        from tests import postgres_15  # noqa: PLC0415 -- imports what most sessions do not need

        postgres_15.use()
