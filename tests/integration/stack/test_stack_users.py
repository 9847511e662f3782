"""As whom the embedded servers run when root or a plain user starts them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg2
import pytest

from scorebeat.core.errors import UsageError
from scorebeat.ops.local import privileges
from tests.support.stack_helpers import REPOSITORY, broker, fast, mode, query_value, servers_of

pytestmark = pytest.mark.wide

ROOT = os.geteuid() == 0
OTHER_PYTHON = "/usr/bin/python3"


@pytest.mark.skipif(not ROOT, reason="only root needs another identity for PostgreSQL")
class TestAsRoot:
    """A container's root: PostgreSQL refuses to run as user 0."""

    forbidden = staticmethod(partial(privileges.for_servers, namespaces=lambda: False))

    def test_without_user_namespaces_an_unprivileged_user_runs_the_servers(self, public: Path) -> None:
        data = public / "data"
        with fast(data, choose=self.forbidden) as urls:
            assert query_value(urls.database_url, "SELECT 1") == 1
            assert broker(urls).ping()
            assert {Path(f"/proc/{pid}").stat().st_uid for pid in servers_of(data)} == {data.stat().st_uid} != {0}
            assert mode(data) == 0o700

        with fast(data) as again:  # namespaces or not, the folder's owner goes on
            assert query_value(again.database_url, "SELECT 1") == 1

    def test_a_folder_of_root_is_handed_over_when_namespaces_become_forbidden(self, public: Path) -> None:
        with fast(public / "data") as urls:
            query_value(urls.database_url, "CREATE TABLE kept AS SELECT 42 AS n")

        with fast(public / "data", choose=self.forbidden) as again:
            assert query_value(again.database_url, "SELECT n FROM kept") == 42

    def test_a_folder_that_the_unprivileged_user_cannot_enter_is_named(self, public: Path) -> None:
        closed = public / "closed"
        closed.mkdir(mode=0o700)

        with (
            pytest.raises(UsageError, match=rf"cannot enter {closed}\..*Set SCOREBEAT_DATA"),
            fast(closed / "data", choose=self.forbidden),
        ):
            pytest.fail("a closed folder entered")
        assert mode(closed) == 0o700

    def test_a_plain_user_starts_the_stack_as_itself(self, public: Path) -> None:
        if not plain_python_works(public):
            pytest.skip(f"no {OTHER_PYTHON} that a plain user may run has the packages' version of Python")
        public.chmod(0o777)
        program = (
            "import sys; from pathlib import Path; from scorebeat.ops.local.servers.embedded import embedded\n"
            "with embedded(Path(sys.argv[1])) as urls: print(urls.broker_url)"
        )
        (public / "async_timeout.py").write_text("from asyncio import timeout")  # redis wants it before 3.11.3
        command = [*as_nobody(public), "-c", program, str(public / "data")]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert (public / "data").stat().st_uid == 65534
        with pytest.raises(psycopg2.OperationalError):
            psycopg2.connect(f"postgresql://scorebeat@/scorebeat?host={public}/data/run")


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are closed."""
    folder = Path(f"/tmp/scorebeat-test-{os.getpid()}-{os.urandom(4).hex()}")  # noqa: S108 - a name that nobody can guess
    folder.mkdir(mode=0o755)
    yield folder
    shutil.rmtree(folder)


def as_nobody(modules: Path) -> list[str]:
    path = ":".join(
        [str(modules), str(REPOSITORY / "src"), *(word for word in sys.path if word.endswith("site-packages"))]
    )
    user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    return [*user, "env", f"PYTHONPATH={path}", "PYTHONDONTWRITEBYTECODE=1", OTHER_PYTHON]


def plain_python_works(modules: Path) -> bool:
    if shutil.which("setpriv") is None or not Path(OTHER_PYTHON).exists():
        return False
    command = [*as_nobody(modules), "-c", "import psycopg2"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
