"""The benchmark of the ledger alone, at a tiny size."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import REPOSITORY

pytestmark = pytest.mark.slow

TINY = (
    "--workers 2 --clients 1 --batches 400 --batches-a-run 20 --idle 20 --jobs 3 --real-batches 0"
    " --pause 0.1 --seconds 3 --full-seconds 2"
)


def test_the_ledgers_traffic_is_played_and_its_costs_are_reported(tmp_path: Path) -> None:
    results = tmp_path / "ledger.json"
    command = [sys.executable, "-m", "benchmarks.ledger", *TINY.split(), "--results", str(results)]

    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(results.read_text())
    assert found["faults"] == []
    assert found["sizes"]["2"]["connections"] >= 2 * 2 + 1
    for name in ("a batch takes 0.1 s", "no pause"):
        phase = found["sizes"]["2"][name]
        assert phase["batches"] > 0
        assert phase["spent"]["PostgreSQL, ms of CPU a batch"] > 0
        assert {"claim", "commit", "Runs page"} <= phase["times"].keys()
        assert any("UPDATE scorebeat.batches" in one["statement"] for one in phase["statements"])
