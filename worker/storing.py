"""Storing a part of a batch; a row whose value PostgreSQL refuses is found by halving what is stored."""

import pyarrow as pa

from scorebeat.core.errors import ScorebeatError
from scorebeat.db import columns, failures, quarantine
from scorebeat.db.columns import Timing
from scorebeat.db.quarantine import BadRow
from scorebeat.worker.attempt import Attempt, bad_row

NO_SUCH_CHARACTER = "22P05"
"""The database is not UTF-8, and its encoding lacks a character."""


class AlreadyThere(ScorebeatError):
    """Rows of the part have predictions; it is to be fetched again without them."""


def store(
    a: Attempt, keys: pa.RecordBatch, scored: pa.RecordBatch, bad: tuple[BadRow, ...], timing: Timing | None
) -> int:
    """Commit rows and put bad ones aside; answers the rows scored. With `timing` the batch is committed.

    Raises AlreadyThere if a key of it has a prediction, ClaimLost.
    """
    try:
        a.commit(keys, scored, bad, timing)
        return int(scored.num_rows)
    except columns.DRIVER_ERRORS as error:
        if columns.is_repeated_key(error):
            a.w.data.rollback()
            raise AlreadyThere(columns.detail(error)) from None
        if failures.sqlstate(error) == NO_SUCH_CHARACTER and not quarantine.is_ascii(bad):
            a.w.data.rollback()
            return store(a, keys, scored, quarantine.as_ascii(bad), timing)
        if not failures.is_about_values(error) or not scored.num_rows:
            raise
        a.w.data.rollback()
        if scored.num_rows == 1:
            a.commit(keys.slice(0, 0), scored.slice(0, 0), (*bad, bad_row(keys, 0, error)), timing)
            return 0
    middle = scored.num_rows // 2
    first = store(a, keys.slice(0, middle), scored.slice(0, middle), bad, None)
    return first + store(a, keys.slice(middle), scored.slice(middle), (), timing)
