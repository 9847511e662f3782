"""Keeping parts of a round apart: one that fails is told and left to the next round, the others go on."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from billiard.exceptions import SoftTimeLimitExceeded

from scorebeat.core.errors import one_line
from scorebeat.core.events import emit
from scorebeat.db.connect import database_errors


@contextmanager
def apart(part: str, of: object = None) -> Iterator[None]:
    """Whatever fails within is one event, with its traceback unless it passes by itself.

    `of` is the run, queue or job that it was about.
    """
    try:
        yield
    except SoftTimeLimitExceeded:
        raise
    except Exception as error:  # noqa: BLE001 -- a bug in one part must not stop the others either
        passes = database_errors.is_transient(error)
        reason = one_line(database_errors.words(error))
        level = logging.WARNING if passes else logging.ERROR
        emit(
            "control.failed",
            level,
            part=part,
            of=of,
            reason=reason,
            exc=None if passes or database_errors.quotes_values(error) else error,
        )
