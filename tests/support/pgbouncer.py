"""Debian's PgBouncer before a test's PostgreSQL."""

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url

from scorebeat.ops.local.privileges import for_servers, own
from scorebeat.ops.local.processes import Child, Process
from tests.support.fixtures import free_port, wait_for


@dataclass(frozen=True)
class Pooler:
    """One running PgBouncer."""

    url: str
    """Of the same database, through it."""
    log: Path


@contextmanager
def pgbouncer(folder: Path, url: str, mode: str, ignored: str = "") -> Iterator[Pooler]:
    """Pools the database's connections by `mode`, and drops the startup parameters that are to be `ignored`."""
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("there is no pgbouncer: apt-get install pgbouncer")
    database, folder = make_url(url), folder / mode
    folder.mkdir()
    port = free_port()
    pooled = database.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)
    identity = for_servers(folder, [Path(program)])
    for path in _files(folder, database, port, mode, ignored):
        own(path, identity)
    own(folder, identity)
    process = Process("pgbouncer", (program, str(folder / "pgbouncer.ini")), identity=identity)
    log = folder / "pgbouncer.log"
    with log.open("wb") as output:
        child = Child(process, output)
        try:
            wait_for(lambda: _listens(port))
            yield Pooler(pooled, log)
        finally:
            child.stop(hurried=lambda: False)
            print(log.read_text("utf-8", "replace")[-4000:])  # noqa: T201 -- pytest shows it where a test failed


def _files(folder: Path, database: URL, port: int, mode: str, ignored: str) -> tuple[Path, Path]:
    users, configuration = folder / "users.txt", folder / "pgbouncer.ini"
    users.write_text(f'"{database.username}" "{database.password}"\n')
    lines = (
        "[databases]",
        f"* = host={database.query['host']} port=5432",
        "[pgbouncer]",
        "listen_addr = 127.0.0.1",
        f"listen_port = {port}",
        "unix_socket_dir =",
        "auth_type = scram-sha-256",
        f"auth_file = {users}",
        f"pool_mode = {mode}",
        "default_pool_size = 40",
        f"ignore_startup_parameters = {ignored}",
    )
    configuration.write_text("\n".join(lines) + "\n")
    return users, configuration


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
