"""Replacements of the images of PostgreSQL and Redis: the embedded stack's programs, started as those do it."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from scorebeat.ops.local import postgres, valkey
from scorebeat.ops.local.privileges import for_servers, launcher, own

REDIS_SERVER = """#!/bin/sh
exec {server} "$@" --port {port} --bind 127.0.0.1
"""
REDIS_CLI = """#!{python}
# as redis-cli does: its password from the environment; a refusal is printed, and with -e a failure
import os, sys, redis
if sys.argv[1:] not in (["ping"], ["-e", "ping"]):
    sys.exit("this replaces redis-cli ping only")
try:
    redis.Redis(port={port}, password=os.environ.get("REDISCLI_AUTH")).ping()
    print("PONG")
except (redis.AuthenticationError, redis.BusyLoadingError, redis.ResponseError) as refusal:
    print(refusal)
    sys.exit("-e" in sys.argv)
except redis.RedisError as error:
    sys.exit(str(error))
"""


def make_cluster(volume: Path, environment: Mapping[str, str]) -> None:
    """As the image of PostgreSQL does when its volume is empty: a cluster, a user with the password, a database."""
    programs, owner = postgres.binaries(), for_servers(volume, [postgres.binaries() / "postgres"])
    password = volume / "password"
    password.write_text(environment["POSTGRES_PASSWORD"])
    for path in (volume, password):
        own(path, owner)
    access = ["-U", environment["POSTGRES_USER"], f"--pwfile={password}", "--auth=scram-sha-256", "--no-sync"]
    options = environment["POSTGRES_INITDB_ARGS"].split()
    command = [str(programs / "initdb"), "-D", str(volume / "data"), *access, *options]
    done = subprocess.run(
        launcher(owner, signal.SIGKILL, command), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    single = [str(programs / "postgres"), "--single", "-D", str(volume / "data"), "postgres"]
    subprocess.run(
        launcher(owner, signal.SIGKILL, single), input=f"CREATE DATABASE {environment['POSTGRES_DB']}\n",
        text=True, check=True, timeout=60, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def command(arguments: list[str], port: int, folder: Path, volume: Path) -> list[str]:
    """The file's command, its program by the full path; PostgreSQL with what its image sets for itself."""
    if arguments[0] != "postgres":
        return [str(shutil.which(arguments[0], path=_path(folder, port))), *arguments[1:]]
    owner = for_servers(volume, [postgres.binaries() / "postgres"])
    fixed = {"port": str(port), "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
    options = [word for name, value in fixed.items() for word in ("-c", f"{name}={value}")]
    started = [str(postgres.binaries() / "postgres"), "-D", str(volume / "data"), *arguments[1:], *options]
    return launcher(owner, signal.SIGINT, started)


def environment(port: int, folder: Path) -> dict[str, str]:
    """The folders of its programs, and for those of PostgreSQL the port."""
    return {"PATH": _path(folder, port), "HOME": str(folder), "PGPORT": str(port)}


def _path(folder: Path, port: int) -> str:
    return os.pathsep.join(map(str, (_shims(folder, port), postgres.binaries(), "/usr/bin", "/bin")))


def _shims(folder: Path, port: int) -> Path:
    """A folder with `redis-server` and `redis-cli` for this port; Valkey's server is the first."""
    made = folder / f"programs-{port}"
    texts = {
        "redis-server": REDIS_SERVER.format(server=valkey.binary(), port=port),
        "redis-cli": REDIS_CLI.format(python=sys.executable, port=port),
    }
    if not made.exists():
        made.mkdir()
        for name, text in texts.items():
            (made / name).write_text(text)
            (made / name).chmod(0o755)
    return made
