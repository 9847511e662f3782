"""A model's code that closes descriptors which it did not open: its process ends at that call, and says so."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from scorebeat.core.descriptors import Sentinel
from scorebeat.worker.lifecycle import deadlines

EXIT = 74
"""EX_IOERR of sysexits.h."""
REASON = (
    "The model's code closed descriptors that it did not open, as os.closerange does: the process had lost its "
    "connections."
)


@contextmanager
def required(sentinel: Sentinel) -> Iterator[None]:
    """The process ends with the block if its code closed the sentinel: the row is found as one that kills it.

    Its connections are gone, so the reason is left in the memory that its parent shares.
    """
    try:
        yield
    finally:
        if sentinel.is_lost():
            shared = deadlines.shared()
            if shared is not None:
                shared.leave(REASON)
            os._exit(EXIT)
