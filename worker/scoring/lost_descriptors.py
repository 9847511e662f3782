"""A model's code that closes descriptors which it did not open: its process ends at that call, and reports it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from scorebeat.core.process.descriptors import EXIT
from scorebeat.models.scoring.surroundings import Surroundings
from scorebeat.worker.lifecycle import deadlines

REASON = (
    "The model's code closed descriptors that it did not open, as os.closerange does: the process had lost its "
    "connections."
)


@contextmanager
def entered(surroundings: Surroundings) -> Iterator[None]:
    """Enter the model's surroundings. The process ends with the block if its code closed descriptors of others.

    The row is then found as one that kills its process. The connections are gone, so the reason is left in the memory
    that the parent shares.
    """
    try:
        with surroundings.entered():
            yield
    finally:
        if surroundings.has_closed_descriptors:
            shared = deadlines.shared()
            if shared is not None:
                shared.leave(REASON)
            os._exit(EXIT)
