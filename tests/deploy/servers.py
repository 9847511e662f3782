"""A replacement of Redis' image: the embedded stack's broker under the names of its programs."""

import os
import sys
from pathlib import Path

from scorebeat.ops.local.servers import valkey

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


def environment(port: int, folder: Path) -> dict[str, str]:
    """In which its programs are found."""
    path = os.pathsep.join(map(str, (_shims(folder, port), "/usr/bin", "/bin")))
    return {"PATH": path, "HOME": str(folder)}


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
