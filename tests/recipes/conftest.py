"""The recipes of other programs are collected only where their environments are: `make test-recipes`."""

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if config.getoption("--recipes") is None and collection_path.name.startswith("test_") else None
