"""The memory limit of a worker's container, and the processes that the kernel killed because it was met."""

from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
A_PROCESS = 128 * 2**20
"""Bytes of which a process that scores a small model needs more; two with 20,000 rows a batch took 441 MB."""

_MIB = 2**20
_MOST = 2**60
"""Bytes; the first version of control groups writes more than this where there is no limit."""

_explained = 0
"""Processes that were killed before this worker began, or whose death it explained."""


def begin() -> None:
    """In the parent, before it starts its processes."""
    global _explained  # noqa: PLW0603 -- one count for the one parent
    _explained = killed()


def reason() -> str:
    """Why the kernel killed a process, for one death after the other; empty if it killed none that is not explained."""
    global _explained  # noqa: PLW0603 -- as above
    most = limit()
    if most is None or killed() <= _explained:
        return ""
    _explained += 1
    return (
        f"this container met its memory limit of {most // _MIB:,} MiB and the kernel killed the process. Raise the"
        " limit, lower batch_rows or batch_bytes of the job, or run fewer processes"
    )


def too_little(processes: int) -> str:
    """Why this many processes that score will hardly fit; empty if they may."""
    most = limit()
    if most is None or most >= processes * A_PROCESS:
        return ""
    return (
        f"{processes} processes have {most // _MIB:,} MiB together, less than {A_PROCESS // _MIB} MiB each: raise the"
        " container's memory limit, or run fewer with --processes"
    )


def limit() -> int | None:
    """Bytes that this container may take; None if it may take what the machine has."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _read(name).strip()
        if text.isdecimal() and int(text) < _MOST:
            return int(text)
    return None


def killed() -> int:
    """Processes of this container that the kernel has killed for its memory since it was made."""
    for name in ("memory.events", "memory/memory.oom_control"):
        counts = dict(line.split(" ", 1) for line in _read(name).splitlines())
        if "oom_kill" in counts:
            return int(counts["oom_kill"])
    return 0


def _read(name: str) -> str:
    try:
        return (CGROUP / name).read_text("ascii")
    except OSError:
        return ""
