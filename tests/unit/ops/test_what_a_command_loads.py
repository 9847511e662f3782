"""Commands start soon: what only other commands need is not imported."""

import subprocess
import sys

import pytest
from alembic.script import ScriptDirectory

from scorebeat.db.schema import migrate, revisions

HEAVY = ("adbc_driver_postgresql", "alembic", "celery.app", "kombu.connection", "pandas", "redis", "sklearn", "torch")
"""Each takes a tenth of a second or more to import; none is needed to read the ledger."""


@pytest.mark.slow(quick=3)
@pytest.mark.parametrize("home", ["runs.runs", "runs.watch", "reports.metrics"])
def test_a_command_that_reads_the_ledger_loads_nothing_that_others_need(home: str) -> None:
    program = (
        f"import sys, scorebeat.ops.cli.app, scorebeat.ops.cli.commands.{home}\n"
        f"print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []


def test_the_revisions_that_are_read_from_file_names_are_alembics() -> None:
    scripts = ScriptDirectory.from_config(migrate.config())

    assert list(revisions.known()) == [script.revision for script in scripts.walk_revisions()][::-1]
    assert revisions.newest() == scripts.get_current_head()
