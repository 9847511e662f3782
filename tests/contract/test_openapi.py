"""The API keeps to its description, whatever is sent and by whom: schemathesis finds nothing."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_fixtures import BEARER, Opener, client, opened, scored
from tests.support.ledger_fixtures import Ledger, ledger, trained
from tests.support.ledger_rows import add_batch, add_run

pytestmark = pytest.mark.wide

__all__ = ["client", "ledger", "opened", "scored", "trained"]

CONFIG = """
# 400: the request fits the description, and PostgreSQL or the model cannot use a value in it
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "404", "409"{more}]
"""


def test_schemathesis_finds_nothing_with_the_token(scored: Ledger, opened: Opener, tmp_path: Path) -> None:
    with scored.engine.begin() as connection:
        add_batch(connection, add_run(connection, "partial", job="flowers_job"), "dead")

    found = schemathesis(opened, tmp_path, "--header", f"Authorization: {BEARER['Authorization']}")

    assert found.returncode == 0, found.stdout + found.stderr
    assert scored.sql("SELECT count(*) FROM items") == [30]


CLOSED = ("--phases", "fuzzing")
"""Enough for an API that refuses every request but health, by path and token alone. Requests of every other kind
are sent to the API with public reading, which refuses some and serves others."""


@pytest.mark.parametrize(
    ("changed", "options"), [({}, CLOSED), ({"api_read_public": True}, ()), ({"api_token": None}, CLOSED)], ids=str
)
def test_schemathesis_finds_nothing_without_the_token_and_changes_nothing(
    scored: Ledger, opened: Opener, tmp_path: Path, changed: dict[str, Any], options: tuple[str, ...]
) -> None:
    done = "SELECT (SELECT count(*) FROM scorebeat.actions), (SELECT count(*) FROM scorebeat.runs)"
    before = scored.sql(done)

    found = schemathesis(opened, tmp_path, *options, refused=', "401"', **changed)

    assert found.returncode == 0, found.stdout + found.stderr
    assert scored.sql(done) == before


def schemathesis(
    opened: Opener, folder: Path, *options: str, refused: str = "", **changed: Any
) -> subprocess.CompletedProcess[str]:
    """Every check, over every path, of an API with these settings."""
    (folder / "schemathesis.toml").write_text(CONFIG.format(more=refused))
    return subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml", "run",
         f"{opened(**changed).base_url}/openapi.json", *options, "--generation-deterministic",
         "--max-examples", "5", "--checks", "all", "--no-color"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
