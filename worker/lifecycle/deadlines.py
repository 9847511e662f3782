"""The deadline of each worker process for its model, and the stacks of a process that missed it.

The process writes both into memory that its parent shares, so that the parent reads them after it was stopped or died.
"""

import math
import mmap
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

_VARIABLE = "_SCOREBEAT_DEADLINES"
"""The variable with the path of the memory; forked and spawned processes inherit it."""
_RECORD = struct.Struct("<qdd")
_STACKS = 64
"""Offset of a process's stacks in its part of the memory."""
_PART = 16 * 1024
_PARTS = 4096
"""A process id selects the part. Two processes of one worker hardly share one; the part has the id of its owner."""


@dataclass(frozen=True)
class Deadline:
    """The time that a process last allowed its model."""

    seconds: float
    until: float
    """By `time.monotonic()`, which all processes of a machine share."""
    stacks: str
    """Written by the watchdog after the deadline, or by a process that ends itself; empty before."""

    def passed(self, seconds_ago: float = 0.0) -> bool:
        return time.monotonic() >= self.until + seconds_ago


class Deadlines:
    """The shared memory, as one process has it open."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        """The file that the watchdog writes stacks to."""
        self.pid = os.getpid()
        self._memory = mmap.mmap(descriptor, _PARTS * _PART)

    def begin(self, seconds: float) -> None:
        """From now on the model of this process has so many seconds."""
        start = _part(self.pid)
        self._memory[start + _STACKS : start + _PART] = bytes(_PART - _STACKS)
        os.lseek(self.descriptor, start + _STACKS, os.SEEK_SET)
        _RECORD.pack_into(self._memory, start, self.pid, time.monotonic() + seconds, seconds)

    def end(self) -> None:
        """The model of this process is done."""
        _RECORD.pack_into(self._memory, _part(self.pid), 0, 0.0, 0.0)

    def leave(self, message: str) -> None:
        """The last message of this process to its parent, which needs no descriptor."""
        start, text = _part(self.pid), message.encode()[: _PART - _STACKS]
        self._memory[start + _STACKS : start + _PART] = text.ljust(_PART - _STACKS, b"\0")
        _RECORD.pack_into(self._memory, start, self.pid, math.inf, math.inf)

    def of(self, pid: int) -> Deadline | None:
        """The deadline of a process of this worker, dead or alive; None if it was not in a model."""
        start = _part(pid)
        owner, until, seconds = _RECORD.unpack_from(self._memory, start)
        if owner != pid:
            return None
        stacks = self._memory[start + _STACKS : start + _PART].rstrip(b"\0").decode("utf-8", "replace")
        return Deadline(seconds, until, stacks)


def share() -> None:
    """Make the memory; called by a worker's parent before it starts processes.

    Without such memory everything works, but less is known of a process that died.
    """
    try:
        memory = os.memfd_create("scorebeat-deadlines")
    except (OSError, AttributeError):  # another system than Linux
        return
    os.ftruncate(memory, _PARTS * _PART)  # it takes no memory until it is written, and exists as long as the parent
    os.environ[_VARIABLE] = f"/proc/{os.getpid()}/fd/{memory}"


def shared() -> Deadlines | None:
    """The memory, in the parent or one of its processes; None if there is none."""
    global _shared  # noqa: PLW0603 -- one a process; a forked process opens it again, to have a file position of its own
    if (_shared is None or _shared.pid != os.getpid()) and _VARIABLE in os.environ:
        try:
            _shared = Deadlines(os.open(Path(os.environ[_VARIABLE]), os.O_RDWR | os.O_CLOEXEC))
        except OSError:
            return None
    return _shared


def _part(pid: int) -> int:
    return pid % _PARTS * _PART


_shared: Deadlines | None = None
