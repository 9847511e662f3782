"""The most important tests pass on PostgreSQL 15 too; `make test-postgres-15` runs the whole suite there."""

import subprocess
import sys

import pytest

from tests.support.fixtures import REPOSITORY
from tests.support.postgres_15 import BINARIES, MISSING

pytestmark = pytest.mark.wide

CHOSEN = (
    "ledger/test_migrations.py",
    "scoring/test_claims.py",
    "quarantine/test_careful.py",
    "publishing/test_generations.py",
    "publishing/test_views.py",
    "roles/test_roles.py",
    "ledger/test_prune.py",
    "cli/test_psql_settings.py",
)


@pytest.mark.skipif(not BINARIES.exists(), reason=MISSING)
def test_the_chosen_files_pass_on_postgresql_15(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--postgres") == "15":
        pytest.skip("the whole session is on PostgreSQL 15")
    files = [f"tests/integration/{name}" for name in CHOSEN]

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--postgres=15", "-p", "no:cacheprovider", "-p", "no:xdist", *files],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-6000:]
    assert " passed" in done.stdout.splitlines()[-1]
