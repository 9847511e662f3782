"""Looking at the embedded stack from outside: processes, sockets, files, and `up` in a process of its own."""

import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest
import redis

from scorebeat.core.data_folder import StackUrls
from scorebeat.ops.local.servers.embedded import embedded
from tests.support.stack_fixtures import UNSAFE_BUT_FAST

PATIENCE = 20.0
REPOSITORY = Path(__file__).parents[2]
UP = """
import sys
from pathlib import Path
from scorebeat.core.settings import Settings
from scorebeat.ops.local.processes import Process
from scorebeat.ops.local.up import child_environment, up
script = "echo tick $SCOREBEAT_DATABASE_URL | cut -c 1-15; exec sleep 1000"
def own(settings):
    return [Process("ticker", ("/bin/sh", "-c", script), child_environment(settings))]
sys.exit(up(Settings(data=Path(sys.argv[1])), lambda s: print("prepared", flush=True), own))
"""


fast = partial(embedded, postgres_settings=UNSAFE_BUT_FAST)


def wait_for(fact: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not fact():
        assert time.monotonic() < deadline, "the fact never came true"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def query_value(url: str, sql: str) -> object:
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
        pytest.fail(f"{text!r} was never printed; the log:\n" + "\n".join(self.lines))

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


def responds(urls: StackUrls) -> bool:
    try:
        return query_value(urls.database_url, "SELECT 1") == 1 and bool(broker(urls).ping())
    except (psycopg2.OperationalError, redis.ConnectionError):
        return False
