"""What the embedded stack promises, tried with the real servers and with real signals."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import adbc_driver_postgresql.dbapi as adbc
import kombu.connection
import psycopg2
import pytest
import redis
import sqlalchemy

from core.errors import SettingsError, UsageError
from core.settings import Settings
from core.stack import STATE_FILE, StackUrls, running_stack
from ops.stack import identity, postgres
from ops.stack.embedded import database_only, embedded
from ops.stack.folder import locked
from ops.stack.up import own_processes, up
from tests.stack_fixtures import UNSAFE_BUT_FAST, stack
from tests.unit.test_supervisor import alive, wait_for

REPOSITORY = Path(__file__).parents[2]
ROOT = os.geteuid() == 0
OTHER_PYTHON = "/usr/bin/python3"
UP = """
import sys
from pathlib import Path
from core.settings import Settings
from ops.stack.process import Process
from ops.stack.up import child_environment, up
script = "echo tick $SCOREBEAT_DATABASE_URL | cut -c 1-15; exec sleep 1000"
def own(settings):
    return [Process("ticker", ("/bin/sh", "-c", script), child_environment(settings))]
sys.exit(up(Settings(data=Path(sys.argv[1])), lambda s: print("prepared", flush=True), own))
"""

pytestmark = pytest.mark.timeout(60)
__all__ = ["stack"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


fast = partial(embedded, postgres_settings=UNSAFE_BUT_FAST)


def answer(url: str, sql: str) -> object:
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchone()[0] if cursor.description else None
    finally:
        connection.close()


def broker(urls: StackUrls) -> redis.Redis:
    return redis.Redis(unix_socket_path=urlsplit(urls.broker_url).path)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def servers_of(data: Path) -> list[int]:
    """Process ids of all that hold the servers' lock, found from the outside."""
    lock = str((data / "servers.lock").resolve())
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            held = {str(descriptor.readlink()) for descriptor in (process / "fd").iterdir()}
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if lock in held and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


class Up:
    """`up` in a process of its own, its log read line by line."""

    def __init__(self, data: Path, process: subprocess.Popen[str]) -> None:
        self.data, self.process, self.lines = data, process, list[str]()

    def until(self, text: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if text in line:
                return line
        pytest.fail(f"{text!r} was never said; the log:\n" + "\n".join(self.lines))

    def server(self, name: str) -> int:
        """Process id of postgres or valkey."""
        commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0] for pid in servers_of(self.data)}
        return next(pid for pid, command in commands.items() if re.search(rb"bin\S*/" + name.encode(), command))


@contextmanager
def running_up(data: Path) -> Iterator[Up]:
    command = [sys.executable, "-c", UP, str(data)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Up(data, process)
        finally:
            process.kill()


def test_the_urls_work_for_every_library_that_uses_them(stack: StackUrls) -> None:
    assert answer(stack.database_url, "SELECT current_database()") == "scorebeat"
    engine = sqlalchemy.create_engine(sqlalchemy.make_url(stack.database_url).set(drivername="postgresql+psycopg2"))
    with engine.connect() as connection:
        assert connection.scalar(sqlalchemy.text("SELECT 1")) == 1
    with adbc.connect(stack.database_url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    with kombu.connection.Connection(stack.broker_url) as connection:
        assert connection.ensure_connection(max_retries=1)


def test_the_database_is_utf8_and_durable_unless_told(data: Path) -> None:
    with embedded(data) as urls:
        assert answer(urls.database_url, "SHOW server_encoding") == "UTF8"
        assert answer(urls.database_url, "SELECT upper('é')") == "É"
        assert answer(urls.database_url, "SHOW fsync") == answer(urls.database_url, "SHOW synchronous_commit") == "on"
        assert answer(urls.database_url, "SHOW timezone") == "UTC"


def test_nobody_enters_without_the_password(stack: StackUrls) -> None:
    for wrong in (":wrong@", ":@", "@"):
        with pytest.raises(psycopg2.OperationalError, match="password"):
            psycopg2.connect(re.sub(r":[^:@/]+@", wrong, stack.database_url))


def test_the_servers_listen_on_private_sockets_only(stack: StackUrls) -> None:
    sockets = Path(urlsplit(stack.broker_url).path).parent
    assert mode(sockets) == 0o700
    assert mode(sockets / "valkey.sock") == mode(sockets / ".s.PGSQL.5432") == 0o700
    assert answer(stack.database_url, "SHOW listen_addresses") == ""
    assert broker(stack).config_get("port") == {"port": "0"}


def test_the_broker_loses_nothing_by_design(stack: StackUrls) -> None:
    wanted = {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "everysec", "save": ""}

    assert broker(stack).config_get(*wanted) == wanted


def test_a_second_start_finds_the_data_of_the_first(data: Path) -> None:
    with fast(data) as urls:
        answer(urls.database_url, "CREATE TABLE kept AS SELECT 42 AS n")
        broker(urls).set("kept", "42")

    with fast(data) as again:
        assert answer(again.database_url, "SELECT n FROM kept") == 42
        assert broker(again).get("kept") == b"42"


def test_no_folder_outside_changes_and_nothing_inside_is_open(tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    outer.mkdir(mode=0o751)
    programs = postgres.binaries()
    before = {p: p.stat().st_mode for p in [outer, *outer.parents, programs, *programs.parents]}
    with fast(outer / "data"):
        assert {path: path.stat().st_mode for path in before} == before
        inside = [outer / "data", *(p for p in (outer / "data").rglob("*") if not p.is_symlink())]
        assert [path for path in inside if path.stat().st_mode & 0o077] == []


def test_other_commands_find_the_running_stack_and_only_a_running_one(data: Path) -> None:
    assert running_stack(data) is None
    with fast(data) as urls:
        assert running_stack(data) == urls
        assert mode(data / STATE_FILE) == 0o600
        state = (data / STATE_FILE).read_text()
    assert running_stack(data) is None

    (data / STATE_FILE).write_text(state)  # as a killed stack leaves it

    assert running_stack(data) is None
    with locked(data):  # the next one, before its servers are ready
        (data / STATE_FILE).write_text(json.dumps({**json.loads(state), "pid": os.getpid() + 1}))
        assert running_stack(data) is None


def test_urls_are_not_printed_with_their_password(stack: StackUrls) -> None:
    assert "postgresql" not in repr(stack)


def test_a_second_stack_on_the_folder_is_refused_with_the_process_that_has_it(data: Path) -> None:
    with running_up(data) as first:
        first.until("starting ticker")
        with pytest.raises(UsageError, match=f"process {first.process.pid} runs"), fast(data):
            pytest.fail("two stacks on one folder")
        assert running_stack(data) is not None


def test_the_database_alone_is_started_if_there_is_one_and_never_made(data: Path) -> None:
    with pytest.raises(SettingsError, match="SCOREBEAT_DATABASE_URL is not set"), database_only(data):
        pytest.fail("an empty production")
    assert not data.exists()
    with fast(data):
        pass

    with database_only(data) as url:
        assert answer(url, "SELECT 1") == 1
        assert running_stack(data) is None
    assert servers_of(data) == []


def test_an_interrupted_making_of_the_cluster_leaves_no_half_cluster(data: Path) -> None:
    data.mkdir(mode=0o700)
    (data / "lock").touch()
    half = data / "postgres.new-abc"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")

    with fast(data) as urls:
        assert answer(urls.database_url, "SELECT 1") == 1
    assert not half.exists()


def test_a_cluster_whose_making_was_killed_is_made_anew(data: Path) -> None:
    command = [sys.executable, "-c", UP, str(data)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: list(data.glob("postgres.new-*/PG_VERSION")))
        process.kill()
    assert not postgres.has_cluster(data)

    with fast(data) as urls:
        assert answer(urls.database_url, "SELECT 1") == 1
    assert list(data.glob("postgres.new-*")) == []


def test_a_cluster_of_another_major_version_is_refused_and_kept(data: Path) -> None:
    with fast(data):
        pass
    version = data / "postgres" / "PG_VERSION"
    version.write_text("15\n")

    with pytest.raises(UsageError, match=r"PostgreSQL 15.*nothing was changed"), fast(data):
        pytest.fail("another version's files")
    assert version.read_text() == "15\n"


@pytest.mark.parametrize("name", ["x" * 120, "a folder, with 100 % odd näme+s"])
def test_a_folder_whose_name_no_socket_can_have_works(tmp_path: Path, name: str) -> None:
    with fast(tmp_path / name) as urls:
        assert answer(urls.database_url, "SELECT 1") == 1
        assert broker(urls).ping()
        sockets = Path(urlsplit(urls.broker_url).path).parent
        assert mode(sockets) == 0o700
        assert sockets.stat().st_uid == os.geteuid()
    assert not sockets.exists()


def test_a_recorded_socket_folder_is_used_again_only_if_it_is_private(tmp_path: Path) -> None:
    data, planted = tmp_path / ("x" * 120), tmp_path / "planted"
    planted.mkdir(mode=0o755)
    with fast(data):
        pass
    (data / "sockets").write_text(f"{planted}\n")

    with fast(data) as urls:
        assert planted != Path(urlsplit(urls.broker_url).path).parent
    assert list(planted.iterdir()) == []


def test_a_folder_that_holds_other_things_is_refused_and_left_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    (home / "thesis.txt").touch()

    with pytest.raises(UsageError, match="holds other things"), fast(home):
        pytest.fail("a home folder taken over")
    assert mode(home) == 0o755
    assert [path.name for path in home.iterdir()] == ["thesis.txt"]


def test_a_file_in_place_of_the_folder_is_refused(data: Path) -> None:
    data.touch()

    with pytest.raises(UsageError, match="cannot be the folder"), fast(data):
        pytest.fail("a file taken for a folder")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_and_leaves_no_socket(data: Path, number: signal.Signals) -> None:
    with running_up(data) as running:
        running.until("ticker    | tick postgresql")
        running.process.send_signal(number)
        running.until("postgres ended with status 0")
        assert running.process.wait(30) == 0

    assert running.lines.index("prepared") < next(
        i for i, line in enumerate(running.lines) if "starting ticker" in line
    )
    assert servers_of(data) == []
    assert not (data / "run").exists()
    assert not (data / STATE_FILE).exists()


@pytest.mark.parametrize("server", ["postgres", "valkey"])
def test_a_server_that_is_killed_is_started_again_on_the_same_data(data: Path, server: str) -> None:
    with running_up(data) as running:
        running.until("starting ticker")
        urls = running_stack(data)
        assert urls is not None
        answer(urls.database_url, "CREATE TABLE kept AS SELECT 42 AS n")
        os.kill(running.server(server), signal.SIGKILL)

        running.until(f"{server} killed by SIGKILL; it is started again in 1 s")
        running.until(f"starting {server} again")

        wait_for(partial(answers, urls))
        assert answer(urls.database_url, "SELECT n FROM kept") == 42


def answers(urls: StackUrls) -> bool:
    try:
        return answer(urls.database_url, "SELECT 1") == 1 and bool(broker(urls).ping())
    except (psycopg2.OperationalError, redis.ConnectionError):
        return False


def test_a_killed_stack_leaves_nothing_running_and_starts_again(data: Path) -> None:
    with running_up(data) as running:
        running.until("starting ticker")
        servers = servers_of(data)
        assert len(servers) > 2
        running.process.kill()

    with fast(data) as urls:  # waits for the old servers' own shutdown
        assert not any(alive(pid) for pid in servers)
        assert answer(urls.database_url, "SELECT 1") == 1


def test_a_failed_preparation_stops_the_servers(data: Path) -> None:
    def fails(settings: Settings) -> None:
        assert settings.database_url is not None
        raise UsageError("jobs.toml has a mistake")

    with pytest.raises(UsageError, match="a mistake"):
        up(Settings(data=data), fails, lambda _: [])
    assert servers_of(data) == []


def test_one_url_without_the_other_is_refused(data: Path) -> None:
    with pytest.raises(SettingsError, match="SCOREBEAT_BROKER_URL is not set"):
        up(Settings(data=data, database_url="postgresql://u@h/d"), lambda _: None)
    with pytest.raises(SettingsError, match="SCOREBEAT_DATABASE_URL is not set"):
        up(Settings(data=data, broker_url="redis://h"), lambda _: None)
    assert not data.exists()


def test_with_both_urls_no_server_is_started(data: Path) -> None:
    seen = []

    def stop_at_once(settings: Settings) -> None:
        seen.append(settings.broker_url)
        os.kill(os.getpid(), signal.SIGTERM)

    given = Settings(data=data, database_url="postgresql://u@h/d", broker_url="redis://h")
    assert up(given, stop_at_once, lambda _: pytest.fail("stopped before")) == 0
    assert seen == ["redis://h"]
    assert not data.exists()


def test_secrets_reach_the_children_by_environment_only() -> None:
    settings = Settings(database_url="postgresql://u:hidden@/d", broker_url="redis://:hidden@h")

    for process in own_processes(settings):
        assert not any("hidden" in word for word in process.argv)
        assert process.env is not None
        assert process.env["SCOREBEAT_DATABASE_URL"] == settings.database_url
        assert process.env["SCOREBEAT_BROKER_URL"] == settings.broker_url


def test_flower_takes_another_port_when_its_own_is_busy() -> None:
    settings = Settings(database_url="postgresql://u@h/d", broker_url="redis://h")
    with socket.socket() as busy:
        busy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            busy.bind(("127.0.0.1", 5555))
        except OSError:
            pass  # someone else's: as good
        else:
            busy.listen()
        flower = own_processes(settings)[-1]

    assert "--port=5555" not in flower.argv
    assert flower.note == f"Flower: http://127.0.0.1:{flower.argv[-1].removeprefix('--port=')}"


@pytest.mark.skipif(not ROOT, reason="only root needs another identity for PostgreSQL")
class TestAsRoot:
    """A container's root: PostgreSQL refuses to run as user 0."""

    forbidden = staticmethod(partial(identity.for_servers, namespaces=lambda: False))

    def test_without_user_namespaces_an_unprivileged_user_runs_the_servers(self, public: Path) -> None:
        data = public / "data"
        with fast(data, choose=self.forbidden) as urls:
            assert answer(urls.database_url, "SELECT 1") == 1
            assert broker(urls).ping()
            assert {Path(f"/proc/{pid}").stat().st_uid for pid in servers_of(data)} == {data.stat().st_uid} != {0}
            assert mode(data) == 0o700

        with fast(data) as again:  # namespaces or not, the folder's owner goes on
            assert answer(again.database_url, "SELECT 1") == 1

    def test_a_folder_of_root_is_handed_over_when_namespaces_become_forbidden(self, public: Path) -> None:
        with fast(public / "data") as urls:
            answer(urls.database_url, "CREATE TABLE kept AS SELECT 42 AS n")

        with fast(public / "data", choose=self.forbidden) as again:
            assert answer(again.database_url, "SELECT n FROM kept") == 42

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
            "import sys; from pathlib import Path; from ops.stack.embedded import embedded\n"
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
    path = ":".join([str(modules), str(REPOSITORY), *(word for word in sys.path if word.endswith("site-packages"))])
    user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    return [*user, "env", f"PYTHONPATH={path}", "PYTHONDONTWRITEBYTECODE=1", OTHER_PYTHON]


def plain_python_works(modules: Path) -> bool:
    if shutil.which("setpriv") is None or not Path(OTHER_PYTHON).exists():
        return False
    command = [*as_nobody(modules), "-c", "import psycopg2"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
