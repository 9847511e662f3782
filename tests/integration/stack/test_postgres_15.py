"""What matters most holds on PostgreSQL 15 too; `make test-postgres-15` runs the whole suite there."""

import subprocess
import sys

import pytest

from tests.support.fixtures import REPOSITORY
from tests.support.postgres_15 import BINARIES, MISSING

pytestmark = pytest.mark.wide

CHOSEN = (
    "test_migrations.py",
    "test_claims.py",
    "test_careful.py",
    "test_generations.py",
    "test_views.py",
    "test_roles.py",
    "test_prune.py",
    "test_psql_settings.py",
)


@pytest.mark.skipif(not BINARIES.exists(), reason=MISSING)
def test_what_matters_most_holds_on_postgresql_15(request: pytest.FixtureRequest) -> None:
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
