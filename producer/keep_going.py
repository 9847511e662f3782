"""Keeps the parts of a round independent: a part that fails is logged, the next round retries it, the others go on."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from billiard.exceptions import SoftTimeLimitExceeded

from scorebeat.core.errors import one_line
from scorebeat.core.events import emit
from scorebeat.db.connect import database_errors

T = TypeVar("T", int, str)
"""The id of a run, or the name of a job."""


@contextmanager
def log_failure(part: str, of: object = None) -> Iterator[None]:
    """A failure in the block is one event. It has a traceback unless the failure is transient.

    `of` is the run, queue or job of the block.
    """
    try:
        yield
    except SoftTimeLimitExceeded:
        raise
    except Exception as error:  # noqa: BLE001 -- a bug in one part must not stop the others either
        is_transient = database_errors.is_transient(error)
        reason = one_line(database_errors.message(error))
        level = logging.WARNING if is_transient else logging.ERROR
        emit(
            "control.failed",
            level,
            part=part,
            of=of,
            reason=reason,
            exc=None if is_transient or database_errors.quotes_values(error) else error,
        )


def count_each(part: str, items: Iterable[T], act: Callable[[T], int]) -> int:
    """Act for each item; returns the sum of what that returned. An item that fails stops no other."""
    total = 0
    for item in items:
        with log_failure(part, item):
            total += act(item)
    return total
