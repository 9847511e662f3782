"""Fetching rows of which one cannot be computed: found by its key, so that all others are read."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pyarrow as pa

from scorebeat.core.errors import InputError, QueryError, one_line, shortened
from scorebeat.db.batch_io import columns
from scorebeat.db.batch_io.columns import Fetched
from scorebeat.db.connect import database_errors
from scorebeat.db.connect.sql import Key
from scorebeat.db.ledger.isolation import CHUNK_ROWS
from scorebeat.db.ledger.quarantine import BadRow
from scorebeat.db.source.pending import PendingRows
from scorebeat.worker.scoring.attempt import Attempt
from scorebeat.worker.scoring.isolate import drawn, places
from scorebeat.worker.scoring.null_inputs import without_nulls
from scorebeat.worker.scoring.unfit import without_unfit


def fetch(a: Attempt, limit: int, *, anti_join: bool) -> tuple[Fetched, tuple[BadRow, ...]]:
    """The next pending rows of the batch, at most `limit`; and those that the model is not to see.

    The query fails for them, or the job wants rows without a value quarantined.
    """
    try:
        fetched, bad = _fetch(a, limit, anti_join=anti_join)
    except columns.DRIVER_ERRORS as error:
        if not database_errors.is_read_only(error):
            raise
        raise QueryError(
            f"jobs.{a.job.run.job.name}.query writes, and a query may only read: {one_line(error)}"
        ) from None
    if a.job.run.job.null_inputs == "model":
        return fetched, bad
    whole, lacking = without_nulls(fetched)
    return whole, (*bad, *lacking)


def _fetch(a: Attempt, limit: int, *, anti_join: bool) -> tuple[Fetched, tuple[BadRow, ...]]:
    """Rows that can be read, and rows that the query fails for."""
    try:
        return _fit(a, _read(a, limit, a.held.keys, anti_join=anti_join))
    except (*columns.DRIVER_ERRORS, InputError) as error:
        if not _is_about_a_row(error):
            raise
        a.w.data.rollback()
    return _narrowed(a)


def _narrowed(a: Attempt) -> tuple[Fetched, tuple[BadRow, ...]]:
    """A chunk of rows, read in halves of its keys."""
    limit = max(a.held.rows_planned, CHUNK_ROWS)
    statement = a.pending(anti_join=True).keys(a.held.span, limit, listed=a.held.keys)
    keys = columns.fetch_keys(a.w.begin_query(a.job), statement)
    if len(keys) >= a.alike_from:
        _raise_if_all_alike(a, keys)
    parts = list(_halves(a, keys[:CHUNK_ROWS]))
    read = [_fit(a, part) for part in parts if isinstance(part, Fetched)]
    good = [part for part, _ in read] or [_read(a, 0, a.held.keys, anti_join=True)]
    bad = tuple(part for part in parts if isinstance(part, BadRow)) + tuple(row for _, rows in read for row in rows)
    # without pending keys the query fails for rows that are scored or quarantined
    joined = Fetched(_join([part.keys for part in good]), _join([part.rows for part in good]), more=bool(keys))
    return joined, bad


def _raise_if_all_alike(a: Attempt, keys: Sequence[Key]) -> None:
    """Rows from all over the batch fail, each alone: that is one failure of the batch."""
    error: Exception | None = None
    for i in drawn(len(keys)):
        found = _try(a, [keys[i]])
        if isinstance(found, Fetched):
            return
        error = found
    if error is not None:
        raise error


def _halves(a: Attempt, keys: Sequence[Key]) -> Iterator[Fetched | BadRow]:
    if not keys:
        return
    found = _try(a, keys)
    if isinstance(found, Fetched):
        yield found
    elif len(keys) == 1:
        yield BadRow(keys[0], type(found).__name__, shortened(database_errors.words(found)), places(found))
    else:
        middle = len(keys) // 2
        yield from _halves(a, keys[:middle])
        yield from _halves(a, keys[middle:])


def _try(a: Attempt, keys: Sequence[Key]) -> Fetched | Exception:
    """The rows, or the error that one of them may be to blame for."""
    try:
        return _read(a, len(keys) + 1, keys, anti_join=True)
    except (*columns.DRIVER_ERRORS, InputError) as error:
        if not _is_about_a_row(error):
            raise
        a.w.data.rollback()
        return error


def _read(a: Attempt, limit: int, keys: Sequence[Key] | None, *, anti_join: bool) -> Fetched:
    """In one message where the rows are surely few bytes; by COPY where they may be more."""
    pending = a.pending(anti_join=anti_join)
    names, most = a.job.binding.columns, min(columns.AT_ONCE, a.job.run.job.batch_bytes)
    bounded = None if a.held.run_id in a.w.with_long_texts else a.job.source.bounded(names, limit, most)
    if bounded is not None:
        try:
            return _read_from(a, replace(pending, source=bounded), limit, keys, anti_join=anti_join)
        except columns.LongText:
            a.w.with_long_texts.add(a.held.run_id)
    return _read_from(a, pending, limit, keys, anti_join=anti_join)


def _read_from(a: Attempt, pending: PendingRows, limit: int, keys: Sequence[Key] | None, *, anti_join: bool) -> Fetched:
    statement = pending.batch(a.job.binding.columns, a.held.span, limit, anti_join=anti_join, listed=keys)
    return columns.fetch(a.w.begin_query(a.job), statement, pending.source, limit, a.job.run.job.batch_bytes)


def _fit(a: Attempt, fetched: Fetched) -> tuple[Fetched, tuple[BadRow, ...]]:
    return without_unfit(fetched, a.job.run.job.out_of_range)


def _is_about_a_row(error: BaseException) -> bool:
    return isinstance(error, InputError) or database_errors.is_about_values(error)


def _join(parts: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    whole = pa.Table.from_batches(parts).combine_chunks().to_batches()
    return whole[0] if whole else parts[0]
