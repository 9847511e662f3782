"""Storing a part of a batch; a row whose value PostgreSQL refuses is found by halving what is stored."""

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
    """What became of a part."""

    rows: int
    """That were scored."""
    was_last: bool = False
    """The batch is committed, and its run has no open batch."""


class AlreadyThere(ScorebeatError):
    """Rows of the part have predictions; it is to be fetched again without them."""


def store(
    a: Attempt, keys: pa.RecordBatch, scored: pa.RecordBatch, bad: tuple[BadRow, ...], timing: Timing | None
) -> Stored:
    """Commit rows and put bad ones aside. With `timing` the batch is committed.

    Raises AlreadyThere if a key of it has a prediction, ClaimLost.
    """
    try:
        return Stored(scored.num_rows, a.commit(keys, scored, bad, timing))
    except columns.DRIVER_ERRORS as error:
        if columns.is_repeated_key(error):
            a.w.data.rollback()
            raise AlreadyThere(columns.detail(error)) from None
        if database_errors.sqlstate(error) == NO_SUCH_CHARACTER and not quarantine.is_ascii(bad):
            a.w.data.rollback()
            return store(a, keys, scored, quarantine.as_ascii(bad), timing)
        if not database_errors.is_about_values(error) or not scored.num_rows:
            raise
        a.w.data.rollback()
        if scored.num_rows == 1:
            return Stored(0, a.commit(keys.slice(0, 0), scored.slice(0, 0), (*bad, bad_row(keys, 0, error)), timing))
    middle = scored.num_rows // 2
    first = store(a, keys.slice(0, middle), scored.slice(0, middle), bad, None)
    rest = store(a, keys.slice(middle), scored.slice(middle), (), timing)
    return Stored(first.rows + rest.rows, rest.was_last)
