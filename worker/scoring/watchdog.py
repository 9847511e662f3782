"""The watchdog: ends this process if a model hangs, even in native code that holds the interpreter's lock."""

import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager

from scorebeat.worker.lifecycle import deadlines

STDERR = 2
"""The descriptor itself: `sys.stderr` may have been replaced by an object that is no file."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """The block takes so long at most; past that the process writes its stacks for its parent, or to stderr, and exits.

    The worker's parent sees the death and frees the claim; the ledger makes the next attempt more careful. If this
    process stands still, or the model switched the watchdog off, the parent kills it.
    """
    shared = deadlines.shared()
    if shared is not None:
        shared.begin(seconds)
    faulthandler.dump_traceback_later(seconds, exit=True, file=shared.descriptor if shared is not None else STDERR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        if shared is not None:
            shared.end()
