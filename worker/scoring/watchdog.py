"""The watchdog: ends this process when a model hangs, even in native code that holds the interpreter's lock."""

import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager

from scorebeat.worker.lifecycle import deadlines

STDERR = 2
"""The descriptor itself: whoever replaced `sys.stderr` may have put something there that is no file."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """The block takes so long at most; past that the process leaves its stacks to its parent, or on stderr, and exits.

    The worker's parent sees the death and frees the claim; the ledger makes the next attempt more careful. Where this
    process stands still, or the model switched the watchdog off, the parent ends it.
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
