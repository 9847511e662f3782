"""Stores a part of a batch, and finds a row whose value PostgreSQL refuses by halving the part."""

from typing import NamedTuple

import pyarrow as pa

from scorebeat.core.errors import ScorebeatError
from scorebeat.db.batch_io import columns
from scorebeat.db.batch_io.columns import Timing
from scorebeat.db.connect import database_errors
from scorebeat.db.ledger import quarantine
from scorebeat.db.ledger.quarantine import BadRow
from scorebeat.worker.scoring.attempt import Attempt, bad_row

NO_SUCH_CHARACTER = "22P05"
"""The database is not UTF-8, and its encoding lacks a character."""


class Stored(NamedTuple):
    """The outcome of storing a part."""

    rows: int
    """Rows that were scored."""
    was_last: bool = False
    """Whether the batch is committed, and its run has no open batch."""


class AlreadyThere(ScorebeatError):
    """Some rows of the part already have predictions; the part must be fetched again without these rows."""


def store(
    attempt: Attempt, keys: pa.RecordBatch, scored: pa.RecordBatch, bad: tuple[BadRow, ...], timing: Timing | None
) -> Stored:
    """Commit rows and quarantine bad ones. With `timing` the batch is committed.

    Raises AlreadyThere if a key of it has a prediction, ClaimLost.
    """
    try:
        return Stored(scored.num_rows, attempt.commit(keys, scored, bad, timing))
    except columns.DRIVER_ERRORS as error:
        if columns.is_repeated_key(error):
            attempt.runtime.data.rollback()
            raise AlreadyThere(columns.detail(error)) from None
        if database_errors.sqlstate(error) == NO_SUCH_CHARACTER and not quarantine.is_ascii(bad):
            attempt.runtime.data.rollback()
            return store(attempt, keys, scored, quarantine.as_ascii(bad), timing)
        if not database_errors.is_about_values(error) or not scored.num_rows:
            raise
        attempt.runtime.data.rollback()
        if scored.num_rows == 1:
            return Stored(
                0, attempt.commit(keys.slice(0, 0), scored.slice(0, 0), (*bad, bad_row(keys, 0, error)), timing)
            )
    middle = scored.num_rows // 2
    first = store(attempt, keys.slice(0, middle), scored.slice(0, middle), bad, None)
    rest = store(attempt, keys.slice(middle), scored.slice(middle), (), timing)
    return Stored(first.rows + rest.rows, rest.was_last)
