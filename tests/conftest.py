"""Fixtures that every test may use."""

pytest_plugins = ["tests.stack_fixtures", "tests.fixtures", "tests.cli_fixtures"]
