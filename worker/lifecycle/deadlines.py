"""By when each process of a worker is to be done with its model, and the stacks of one that was not.

The process writes both into memory that its parent shares, so that they are still there when it is stopped, or gone.
"""

import math
import mmap
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

_VARIABLE = "_SCOREBEAT_DEADLINES"
"""Where the processes find the memory, whether forked or spawned."""
_RECORD = struct.Struct("<qdd")
_STACKS = 64
"""Where in its part of the memory a process leaves its stacks."""
_PART = 16 * 1024
_PARTS = 4096
"""A process has the part of its id; two of one worker hardly share one, and the id is written beside."""


@dataclass(frozen=True)
class Deadline:
    """What a process last allowed its model."""

    seconds: float
    until: float
    """By `time.monotonic()`, which all processes of a machine share."""
    stacks: str
    """Written by the watchdog when the time was over, or the last word of a process that ends itself; empty before."""

    def passed(self, seconds_ago: float = 0.0) -> bool:
        return time.monotonic() >= self.until + seconds_ago


class Deadlines:
    """The shared memory, as one process has it open."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        """Where the watchdog writes stacks."""
        self.pid = os.getpid()
        self._memory = mmap.mmap(descriptor, _PARTS * _PART)

    def begin(self, seconds: float) -> None:
        """This process gives its model so many seconds, from now."""
        at = _part(self.pid)
        self._memory[at + _STACKS : at + _PART] = bytes(_PART - _STACKS)
        os.lseek(self.descriptor, at + _STACKS, os.SEEK_SET)
        _RECORD.pack_into(self._memory, at, self.pid, time.monotonic() + seconds, seconds)

    def end(self) -> None:
        """Its model is done."""
        _RECORD.pack_into(self._memory, _part(self.pid), 0, 0.0, 0.0)

    def leave(self, word: str) -> None:
        """The last that this process says to its parent, which needs no descriptor."""
        at, text = _part(self.pid), word.encode()[: _PART - _STACKS]
        self._memory[at + _STACKS : at + _PART] = text.ljust(_PART - _STACKS, b"\0")
        _RECORD.pack_into(self._memory, at, self.pid, math.inf, math.inf)

    def of(self, pid: int) -> Deadline | None:
        """That of a process of this worker, which may have died meanwhile; None if it is not in a model."""
        at = _part(pid)
        owner, until, seconds = _RECORD.unpack_from(self._memory, at)
        if owner != pid:
            return None
        stacks = self._memory[at + _STACKS : at + _PART].rstrip(b"\0").decode("utf-8", "replace")
        return Deadline(seconds, until, stacks)


def share() -> None:
    """In a worker's parent, before it has processes. Without such memory all works, and less is known of a death."""
    try:
        memory = os.memfd_create("scorebeat-deadlines")
    except (OSError, AttributeError):  # another system than Linux
        return
    os.ftruncate(memory, _PARTS * _PART)  # it takes no room before it is written, and lives as long as the parent
    os.environ[_VARIABLE] = f"/proc/{os.getpid()}/fd/{memory}"


def shared() -> Deadlines | None:
    """The memory, in the parent or one of its processes; None if there is none."""
    global _shared  # noqa: PLW0603 -- one a process; a forked one opens it anew, for a place of its own to write at
    if (_shared is None or _shared.pid != os.getpid()) and _VARIABLE in os.environ:
        try:
            _shared = Deadlines(os.open(Path(os.environ[_VARIABLE]), os.O_RDWR | os.O_CLOEXEC))
        except OSError:
            return None
    return _shared


def _part(pid: int) -> int:
    return pid % _PARTS * _PART


_shared: Deadlines | None = None
