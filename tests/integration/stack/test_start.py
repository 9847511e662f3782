"""A command loads little before it looks: libraries for columns, models and messages take longer than the look."""

import os
import subprocess
import sys

import pytest

from scorebeat.core.settings import Settings
from tests.support.fixtures import environment

pytestmark = pytest.mark.wide

HEAVY = (
    "pyarrow", "numpy", "pandas", "sklearn", "skops", "torch", "celery", "kombu", "alembic", "adbc_driver_postgresql",
)  # fmt: skip
LISTED = """
import atexit, sys
from scorebeat.ops.cli import main

atexit.register(lambda: sys.stderr.write("\\n" + " ".join({name.partition(".")[0] for name in sys.modules})))
main()
"""


@pytest.mark.parametrize("command", [["runs"], ["runs", "--json"], ["show", "1"], ["failures"], ["jobs"]], ids=" ".join)
def test_a_command_that_looks_loads_nothing_heavy(settings: Settings, command: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, "-c", LISTED, *command],
        env=os.environ | environment(settings),
        capture_output=True,
        text=True,
        check=False,
    )

    loaded = set(result.stderr.splitlines()[-1].split())
    assert {"sqlalchemy", "psycopg2"} <= loaded
    assert not loaded & set(HEAVY)
