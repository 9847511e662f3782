"""The processes of a service, as the kernel lists them: an engine would find them in the service's container."""

from pathlib import Path

MARK = "HOSTNAME"
"""An engine sets one in each container; here it shows whose process one is, whatever started it."""


def of_service(session: int, mark: str) -> list[int]:
    """Ids of the living processes of a session, and of those elsewhere that were started with this mark."""
    everyone = [int(one.name) for one in Path("/proc").glob("[0-9]*")]
    return [pid for pid in everyone if _session(pid) == session or (_has(pid, mark) and _session(pid))]


def title(pid: int) -> str:
    """Program and arguments, as everybody on the machine may read them; empty when it is gone."""
    return _read(pid, "cmdline").decode("utf-8", "replace")


def _session(pid: int) -> int | None:
    """None for a process that has ended."""
    state = _read(pid, "stat").decode("utf-8", "replace").rpartition(")")[2].split()
    return None if not state or state[0] == "Z" else int(state[3])


def _has(pid: int, mark: str) -> bool:
    return f"{MARK}={mark}".encode() in _read(pid, "environ").split(b"\0")


def _read(pid: int, file: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""
