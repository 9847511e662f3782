"""A migrated database, an empty broker and real workers for a test, on the servers of the session."""

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import pytest
import redis
from sqlalchemy import Engine, make_url

from scorebeat.core.data_folder import StackUrls
from scorebeat.core.settings import PREFIX, Settings
from scorebeat.core.text.durations import format_duration
from scorebeat.db.connect.engine import make_engine
from scorebeat.db.schema import migrate
from scorebeat.producer.context import Producer
from tests.support.fork_server import FORKS
from tests.support.machine_code import shared_machine_code

REPOSITORY = Path(__file__).parents[2]
TEMPLATE = "migrated_template"
STOP_WITHIN = 20.0
_numbers = itertools.count(1)
READ_AT_START = ("LD_", "PYTHON", "REMAP_SIGTERM")
"""Variables that the loader, Python and Celery read once, when they start: a forked program would not see them."""

T = TypeVar("T")


def wait_for(look: Callable[[], T], within: float = 60.0, every: float = 0.05) -> T:
    """The first true result of `look`; fails the test with the last result if none comes in time."""
    deadline = time.monotonic() + within
    while not (found := look()):
        if time.monotonic() > deadline:
            pytest.fail(f"nothing came within {within:g} s; the last result was {found!r}")
        time.sleep(every)
    return found


def free_port() -> int:
    """A TCP port of this machine that nobody listened on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def template(stack: StackUrls) -> str:
    """Name of a migrated database to copy; nobody connects to it."""
    _execute(stack.database_url, f'CREATE DATABASE "{TEMPLATE}"')
    engine = make_engine(_other(stack.database_url, TEMPLATE))
    with engine.begin() as connection:
        migrate.migrate(connection)
    engine.dispose()
    return TEMPLATE


@pytest.fixture
def database(stack: StackUrls, template: str) -> Iterator[str]:
    """URL of a migrated database of the test's own."""
    yield from _database(stack, f"TEMPLATE {template} STRATEGY FILE_COPY")  # ten times faster than through the WAL


@pytest.fixture
def empty_database(stack: StackUrls) -> Iterator[str]:
    """URL of a database of the test's own that was never migrated."""
    yield from _database(stack, "STRATEGY FILE_COPY")


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    """The control plane's engine on `database`."""
    made = make_engine(database, "test")
    yield made
    made.dispose()


@pytest.fixture
def broker(stack: StackUrls) -> str:
    """URL of the broker, empty."""
    client = redis.Redis(unix_socket_path=urlsplit(stack.broker_url).path)
    client.flushall()
    client.close()
    return stack.broker_url


@pytest.fixture
def settings(database: str, broker: str, tmp_path: Path) -> Settings:
    """Both servers, folders of the test's own, and waits that are short."""
    return Settings(
        _env_file=None,
        database_url=database,
        broker_url=broker,
        jobs=tmp_path / "jobs.toml",
        prices=tmp_path / "prices.toml",
        artifacts=tmp_path / "artifacts",
        cache=shared_machine_code(tmp_path / "cache"),
        data=tmp_path / "data",
        claim_ttl=timedelta(seconds=4),
        heartbeat=timedelta(seconds=1),
        resend_after=timedelta(seconds=1),
        backoff=timedelta(milliseconds=100),
        backoff_cap=timedelta(seconds=1),
    )


@pytest.fixture
def producer(settings: Settings) -> Iterator[Producer]:
    made = Producer(settings, "test")
    yield made
    made.close()


def environment(settings: Settings) -> dict[str, str]:
    """The environment of a program that is to have these settings, without any of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    variables = {f"{PREFIX}{name.upper()}": _text(value) for name, value in settings.model_dump().items()}
    return kept | {name: value for name, value in variables.items() if value} | {"PYTHONUNBUFFERED": "1"}


def typed(settings: Settings, *words: str, **extra: str) -> "subprocess.CompletedProcess[str]":
    """`scorebeat WORDS` as a person types it, a fork, to its end."""
    return subprocess.run(
        [str(FORKS.commands() / "scorebeat"), *words],
        cwd=REPOSITORY,
        env=environment(settings) | extra,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@dataclass
class Programs:
    """Real programs beside a test; each has a log, and a process group that is ended with the test."""

    settings: Settings
    folder: Path
    started: list[tuple[subprocess.Popen[bytes], Path]] = field(default_factory=list)

    def start(self, *arguments: str, **extra: str) -> subprocess.Popen[bytes]:
        """`python -m ARGUMENTS` with the test's settings; `extra` are further environment variables.

        It is a fork, unless it reads one of them when it starts; `up` never is, as the programs that it starts are not.
        """
        log = self.folder / f"{len(self.started)}-{arguments[0].replace('/', '-')}.log"
        if arguments[1:2] != ("up",) and not any(name.startswith(READ_AT_START) for name in extra):
            forked = FORKS.start(arguments, environment(self.settings) | extra, log)
            self.started.append((forked, log))
            return forked
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=REPOSITORY,
                env=environment(self.settings) | extra,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append((process, log))
        return process

    def worker(self, *queues: str, processes: int = 1, name: str = "worker", **extra: str) -> subprocess.Popen[bytes]:
        """A Celery worker on these queues; it is in the `workers` table once it serves."""
        options = ("-Q", ",".join(queues), "-n", f"{name}{len(self.started)}@%h", "-c", str(processes))
        quiet = ("-l", "INFO")
        return self.start("celery", "-A", "scorebeat.worker", "worker", *options, *quiet, **extra)

    def control(self) -> None:
        """One worker that plans, dispatches, rescues and settles; `beat` sends it the control ticks."""
        self.worker("control", "plan", name="control")
        self.beat()

    def beat(self) -> subprocess.Popen[bytes]:
        return self.start("celery", "-A", "scorebeat.worker", "beat", "-l", "INFO")

    def log(self, process: subprocess.Popen[bytes]) -> str:
        return next(log for one, log in self.started if one is process).read_text("utf-8", "replace")

    def logs(self) -> str:
        return "\n".join(f"--- {log.name}\n{log.read_text('utf-8', 'replace')[-6000:]}" for _, log in self.started)

    def stop(self, process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> None:
        """Signal the parent and wait; what is left of the group is killed."""
        if process.poll() is None:
            process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):  # what does not stop is killed
                process.wait(STOP_WITHIN)
        kill_group(process)

    def stop_all(self) -> None:
        for process, _ in self.started:
            if process.poll() is None:
                process.terminate()
        for process, _ in reversed(self.started):
            self.stop(process)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL the program and all its children."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()


@pytest.fixture
def programs(settings: Settings, tmp_path: Path) -> Iterator[Programs]:
    """Starts real workers, beats and commands; pytest shows their logs when the test failed."""
    folder = tmp_path / "logs"
    folder.mkdir()
    made = Programs(settings, folder)
    yield made
    made.stop_all()
    sys.stdout.write(made.logs())


def _database(stack: StackUrls, options: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    _execute(stack.database_url, f'CREATE DATABASE "{name}" {options}')
    yield _other(stack.database_url, name)
    _execute(stack.database_url, f'DROP DATABASE "{name}" WITH (FORCE)')


def _execute(url: str, statement: str) -> None:
    engine = make_engine(url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def _other(url: str, database: str) -> str:
    return make_url(url).set(database=database).render_as_string(hide_password=False)


def _text(value: object) -> str:
    if isinstance(value, timedelta):
        return format_duration(value)
    return "" if value is None else str(value)
