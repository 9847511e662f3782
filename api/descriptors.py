"""A model's code that closes the server's descriptors: the process ends at that prediction.

It would live on with nothing to listen on, and no supervisor would start it again.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from scorebeat.core.descriptors import EXIT, Sentinel
from scorebeat.core.events import emit


@contextmanager
def required(sentinel: Sentinel, model: str) -> Iterator[None]:
    """The process ends with the block if its code closed the sentinel."""
    try:
        yield
    finally:
        if sentinel.is_lost():
            reason = "its code closed descriptors that it did not open, as os.closerange does"
            emit("api.descriptors_closed", logging.ERROR, model=model, reason=reason)
            os._exit(EXIT)
