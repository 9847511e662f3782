"""The API does what its description says, whatever is sent: schemathesis finds nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.api_fixtures import BEARER, Opener, client, opened, scored
from tests.ledger_fixtures import Ledger, ledger, trained
from tests.ledger_rows import add_batch, add_run

__all__ = ["client", "ledger", "opened", "scored", "trained"]

CONFIG = """
# 400: the request fits the description, and PostgreSQL or the model cannot use a value in it
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "404", "409"]
"""


@pytest.mark.timeout(120)
def test_schemathesis_finds_nothing(scored: Ledger, opened: Opener, tmp_path: Path) -> None:
    with scored.engine.begin() as connection:
        add_batch(connection, add_run(connection, "partial", job="flowers_job"), "dead")
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    url = opened().base_url

    found = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml", "run", f"{url}/openapi.json",
         "--header", f"Authorization: {BEARER['Authorization']}", "--generation-deterministic",
         "--max-examples", "5", "--checks", "all", "--no-color"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip

    assert found.returncode == 0, found.stdout + found.stderr
    assert scored.sql("SELECT count(*) FROM items") == [30]
