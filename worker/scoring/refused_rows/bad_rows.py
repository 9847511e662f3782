"""The record of a row that cannot be scored: its key, and the error that it raised."""

import traceback
from collections import deque

from scorebeat.core.errors import kind, raised, shortened
from scorebeat.db.connect import database_errors
from scorebeat.db.ledger.failures.quarantine import BadRow, RowId


def bad_row(row: RowId, error: Exception) -> BadRow:
    """A row with the error that it raised, cut to a sane size."""
    return BadRow(row, kind(error), shortened(database_errors.message(error)), stack_of(error))


def stack_of(error: BaseException) -> str:
    """The last 20 frames of an error's traceback: file, line and function of each, without any value."""
    own = raised(error)
    # if a model raises one exception object again and again, its traceback grows each time
    last = deque(traceback.walk_tb(own.__traceback__ if isinstance(own, BaseException) else None), 20)
    frames = traceback.StackSummary.extract(iter(last))
    return "\n".join(f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
