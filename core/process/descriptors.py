"""Open descriptors of this process, and whether code that it runs closed those of others."""

import os
import weakref

EXIT = 74
"""EX_IOERR of sysexits.h: of a process whose descriptors a model's code closed."""


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
        self._files = {end: file_of(end) for end in os.pipe()}
        # not when the process ends: a prediction that hangs may end later
        weakref.finalize(self, _close, self._files).atexit = False

    def is_lost(self) -> bool:
        """An end is closed, or another file's."""
        return any(file_of(end) != file for end, file in self._files.items())


def _close(files: dict[int, tuple[int, int] | None]) -> None:
    for end, file in files.items():
        if file_of(end) == file:  # else the number is another's by now
            os.close(end)
