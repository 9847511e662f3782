"""Fetches rows. If PostgreSQL cannot compute one of them, that one is found by its key and all others are read."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from scorebeat.core.bisect import Failed, bisect
from scorebeat.core.errors import InputError, QueryError, one_line
from scorebeat.core.events import emit
from scorebeat.core.table_names import CHANGED_AT
from scorebeat.db.batch_io import columns
from scorebeat.db.batch_io.columns import Fetched
from scorebeat.db.connect import database_errors
from scorebeat.db.connect.sql import Key
from scorebeat.db.ledger.failures.isolation import CHUNK_ROWS
from scorebeat.db.ledger.failures.quarantine import BadRow
from scorebeat.db.source.selection import snapshot
from scorebeat.db.source.selection.pending import PendingRows
from scorebeat.worker.scoring.attempt import Attempt
from scorebeat.worker.scoring.isolate import sample_positions
from scorebeat.worker.scoring.refused_rows.bad_rows import bad_row
from scorebeat.worker.scoring.refused_rows.null_inputs import without_nulls
from scorebeat.worker.scoring.refused_rows.unfit import without_unfit

_LOST = {"42P01": "is gone", "42703": snapshot.OTHER_COLUMNS}
"""What happened to a snapshot that is read, by SQLSTATE: no such table, no such column."""


def fetch(attempt: Attempt, limit: int, *, anti_join: bool) -> tuple[Fetched, tuple[BadRow, ...]]:
    """The next pending rows of the batch, at most `limit`; and bad rows, which the model does not get.

    The query fails for a bad row, or it lacks a value and the job quarantines such rows.
    """
    try:
        fetched, bad = _fetch(attempt, limit, anti_join=anti_join)
        if not fetched.more:
            _require_whole_snapshot(attempt)
    except columns.DRIVER_ERRORS as error:
        how = _LOST.get(database_errors.sqlstate(error) or "") if attempt.claim.span.numbers is not None else None
        if how is not None:
            raise snapshot.lost(attempt.job.run.job, attempt.claim.run_id, how) from None
        if not database_errors.is_read_only(error):
            raise
        raise QueryError(
            f"jobs.{attempt.job.run.job.name}.query writes, and a query may only read: {one_line(error)}"
        ) from None
    _report_without_value(attempt, fetched)
    if attempt.job.run.job.null_inputs == "model":
        return fetched, bad
    whole, lacking = without_nulls(fetched)
    return whole, (*bad, *lacking)


def _require_whole_snapshot(attempt: Attempt) -> None:
    """Raises SnapshotLost if rows of the batch are missing, so that it is not committed as done without them.

    It looks after the rows were read.
    """
    claim = attempt.claim
    if claim.span.numbers is not None:
        with attempt.runtime.engine.connect() as connection:
            snapshot.require_rows(connection, attempt.job.run.job, claim.run_id, claim.span.numbers)


def _report_without_value(attempt: Attempt, fetched: Fetched) -> None:
    """Log once a run that rows have no value in the `changed_at` column: nobody would see when they change."""
    run, seen = attempt.claim.run_id, attempt.runtime.without_value
    rows = fetched.keys.column(CHANGED_AT).null_count if CHANGED_AT in fetched.keys.schema.names else 0
    if rows and run not in seen:
        seen.add(run)
        emit(
            "rows.without_value",
            logging.WARNING,
            run=run,
            batch=attempt.claim.batch_id,
            worker=attempt.runtime.name,
            rows=rows,
            column=attempt.job.run.job.changed_at,
        )


def _fetch(attempt: Attempt, limit: int, *, anti_join: bool) -> tuple[Fetched, tuple[BadRow, ...]]:
    """Rows that can be read, and rows for which the query fails."""
    out_of_range = attempt.job.run.job.out_of_range
    try:
        return without_unfit(_read(attempt, limit, attempt.claim.keys, anti_join=anti_join), out_of_range)
    except (*columns.DRIVER_ERRORS, InputError) as error:
        if not _is_about_a_row(error):
            raise
        attempt.runtime.data.rollback()
    # a chunk of rows, read by halving its keys until the failing rows are found
    most = max(attempt.claim.rows_planned, CHUNK_ROWS)
    statement = attempt.pending(anti_join=True).rows(attempt.claim.span, most, listed=attempt.claim.keys)
    rows = columns.fetch_row_ids(attempt.runtime.begin_query(attempt.job), statement)
    keys = [row.key for row in rows]
    if len(keys) >= attempt.alike_from:
        _raise_if_all_alike(attempt, keys)
    chunk = keys[:CHUNK_ROWS]
    good: list[Fetched] = []
    bad: list[BadRow] = []
    if chunk:
        for part in bisect(
            len(chunk), lambda some: _read_part(attempt, chunk[some.start : some.stop]), _is_about_a_row
        ):
            if isinstance(part, Failed):
                bad.append(bad_row(rows[part.index], part.error))
                continue
            fit, unfit = without_unfit(part.result, out_of_range)
            good.append(fit)
            bad += unfit
    good = good or [_read(attempt, 0, attempt.claim.keys, anti_join=True)]
    # if no key is pending, the query fails for rows that are scored or quarantined
    read_keys = pa.concat_batches([part.keys for part in good])
    read_rows = pa.concat_batches([part.rows for part in good])
    return Fetched(read_keys, read_rows, more=bool(keys)), tuple(bad)


def _raise_if_all_alike(attempt: Attempt, keys: Sequence[Key]) -> None:
    """Raise the error if sampled rows of the whole batch all fail, each alone: that is one failure of the batch."""
    found: Exception | None = None
    for position in sample_positions(len(keys)):
        try:
            _read_part(attempt, [keys[position]])
        except (*columns.DRIVER_ERRORS, InputError) as error:
            if not _is_about_a_row(error):
                raise
            found = error
        else:
            return
    if found is not None:
        raise found


def _read_part(attempt: Attempt, keys: Sequence[Key]) -> Fetched:
    """Rows by their keys; after an error that is about a row the connection can be used again."""
    try:
        return _read(attempt, len(keys) + 1, keys, anti_join=True)
    except (*columns.DRIVER_ERRORS, InputError) as error:
        if _is_about_a_row(error):
            attempt.runtime.data.rollback()
        raise


def _read(attempt: Attempt, limit: int, keys: Sequence[Key] | None, *, anti_join: bool) -> Fetched:
    """In one message where the rows are surely few bytes; by COPY where they may be more."""
    pending = attempt.pending(anti_join=anti_join)
    names, most = attempt.job.binding.columns, min(columns.AT_ONCE, attempt.job.run.job.batch_bytes)
    bounded = (
        None
        if attempt.claim.run_id in attempt.runtime.with_long_texts
        else attempt.job.source.bounded(names, limit, most)
    )
    if bounded is not None:
        try:
            return _read_from(attempt, replace(pending, source=bounded), limit, keys, anti_join=anti_join)
        except columns.LongText:
            attempt.runtime.with_long_texts.add(attempt.claim.run_id)
    return _read_from(attempt, pending, limit, keys, anti_join=anti_join)


def _read_from(
    attempt: Attempt, pending: PendingRows, limit: int, keys: Sequence[Key] | None, *, anti_join: bool
) -> Fetched:
    statement = pending.batch(attempt.job.binding.columns, attempt.claim.span, limit, anti_join=anti_join, listed=keys)
    return columns.fetch(
        attempt.runtime.begin_query(attempt.job), statement, pending.source, limit, attempt.job.run.job.batch_bytes
    )


def _is_about_a_row(error: BaseException) -> bool:
    return isinstance(error, InputError) or database_errors.is_about_values(error)
