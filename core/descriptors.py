"""Open descriptors of this process, and whether code that it runs closed those of others."""

import os
import weakref


def file_of(descriptor: int) -> tuple[int, int] | None:
    """Device and inode of the descriptor's file; None if the descriptor is closed."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino


class Sentinel:
    """A pipe that is used for nothing: only code that closes descriptors which it did not open closes it.

    Those in use are no measure: a thread or the garbage collector may close one meanwhile, and nothing is lost.
    """

    def __init__(self) -> None:
        self._ends = os.pipe()
        self._files = tuple(map(file_of, self._ends))
        # not when the process ends: a prediction that hangs may end later
        weakref.finalize(self, _close, self._ends).atexit = False

    def is_lost(self) -> bool:
        """An end is closed, or another file's."""
        return tuple(map(file_of, self._ends)) != self._files


def _close(ends: tuple[int, int]) -> None:
    for end in ends:
        os.close(end)
