"""A model's code that closes the server's descriptors: the process ends at that prediction.

It would live on with nothing to listen on, and no supervisor would start it again.
"""

import logging
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from scorebeat.core.descriptors import file_of
from scorebeat.core.events import emit

EXIT = 74
"""EX_IOERR of sysexits.h."""


class Sentinel:
    """A pipe that is used for nothing: only code that closes what it did not open closes it."""

    def __init__(self) -> None:
        self._pipe = os.pipe()
        self._file = file_of(self._pipe[0])
        # not when the server stops: a prediction that hangs may end later
        weakref.finalize(self, _close, self._pipe).atexit = False

    @contextmanager
    def required(self, model: str) -> Iterator[None]:
        """The process ends with the block where the pipe is closed."""
        try:
            yield
        finally:
            if any(file_of(end) != self._file for end in self._pipe):
                reason = "its code closed descriptors that it did not open, as os.closerange does"
                emit("api.descriptors_closed", logging.ERROR, model=model, reason=reason)
                os._exit(EXIT)


def _close(pipe: tuple[int, int]) -> None:
    for end in pipe:
        os.close(end)
