"""The demo of drift, as a user starts it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.wide
def test_the_demo_of_drift_holds_the_third_night_and_releases_it(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SCOREBEAT_")}
    done = subprocess.run(
        [sys.executable, "-m", "scorebeat.ops.cli", "demo", "--drift"],
        cwd=tmp_path,
        env=kept | {"HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "canary: 200 rows were scored by" in done.stdout
    assert re.findall(r"^run (\d) is (\w+), 20,000 rows", done.stdout, re.MULTILINE) == [
        ("1", "succeeded"),
        ("2", "succeeded"),
        ("3", "held"),
    ]
    before, after = re.findall(r"readers (?:still )?see night \d: ([\d.]+)%", done.stdout)
    assert float(before) < 10 < float(after)
