"""`make test` leaves out many cases of what it shows, and none that shows a guarantee."""

import re
import subprocess
import sys

import pytest

from tests.docs.pages import REPOSITORY


@pytest.fixture(scope="module")
def quick() -> set[str]:
    """The tests that `make test` runs, as FILE::NAME."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "--quick", "-p", "no:xdist"]
    output = subprocess.run(command, capture_output=True, check=True, text=True, cwd=REPOSITORY).stdout
    return {line.partition("[")[0] for line in output.splitlines() if "::" in line}


def test_each_test_that_the_guarantees_name_runs_with_make_test(quick: set[str]) -> None:
    page = (REPOSITORY / "docs" / "guarantees.md").read_text("utf-8")
    files, titles = {test.partition("::")[0] for test in quick}, {test.rpartition("::")[2] for test in quick}

    assert set(re.findall(r"`(test_\w+)`", page)) - titles == set()
    assert set(re.findall(r"`(tests/[\w/]+\.py)`", page)) - files == set()


@pytest.mark.parametrize("folder", ["unit", "contract", "parity", "fault", "deploy", "docs"])
def test_it_has_tests_of_each_kind(quick: set[str], folder: str) -> None:
    assert any(test.startswith(f"tests/{folder}/") for test in quick)
