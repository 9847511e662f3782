"""Stores a part of a batch, and finds a row whose value PostgreSQL refuses by halving the part."""

from dataclasses import replace
from typing import NamedTuple

import pyarrow as pa

from scorebeat.core.bisect import Failed, bisect
from scorebeat.core.errors import OutputError, ScorebeatError
from scorebeat.core.events import emit
from scorebeat.core.table_names import CHANGED_AT
from scorebeat.db.batch_io import columns
from scorebeat.db.batch_io.columns import Part, Timing, TypesChanged
from scorebeat.db.closing import error_threshold
from scorebeat.db.connect import database_errors
from scorebeat.db.ledger.failures import quarantine
from scorebeat.db.ledger.failures.quarantine import BadRow
from scorebeat.db.predictions.table_types import TableTypes
from scorebeat.db.source.changes import SEEN
from scorebeat.db.source.fetched_values import without_changes
from scorebeat.worker.scoring.attempt import Attempt
from scorebeat.worker.scoring.refused_rows.bad_rows import bad_row

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
    rows, is_last = scored.num_rows, False

    def commit_part(part: range) -> None:
        nonlocal is_last
        is_last = _commit_rows(
            attempt,
            keys.slice(part.start, len(part)),
            scored.slice(part.start, len(part)),
            bad if part.start == 0 else (),
            timing if part.stop == scored.num_rows else None,
        )

    for part in bisect(scored.num_rows, commit_part, database_errors.is_about_values):
        if isinstance(part, Failed):
            rows -= 1
            row = bad_row(quarantine.row_id(keys, part.index), part.error)
            is_last = _commit_rows(
                attempt,
                keys.slice(0, 0),
                scored.slice(0, 0),
                (*(bad if part.index == 0 else ()), row),
                timing if part.index == scored.num_rows - 1 else None,
            )
    return Stored(rows, is_last)


def stop_if_too_many(attempt: Attempt) -> None:
    """Fail the run if it is past the threshold: then something other than its rows is wrong."""
    with attempt.runtime.engine.begin() as connection:
        reason = error_threshold.stop(connection, attempt.job.run)
    if reason is not None:
        emit("run.failed", run=attempt.claim.run_id, reason=reason)


def _commit_rows(
    attempt: Attempt, keys: pa.RecordBatch, scored: pa.RecordBatch, bad: tuple[BadRow, ...], timing: Timing | None
) -> bool:
    """Commit in one transaction; `timing` marks the last one. Returns whether the run then has no open batch.

    After an error the connection can be used again if the error is about values or characters.
    """
    try:
        try:
            was_last = _commit(attempt, keys, scored, bad, timing)
        except (TypesChanged, OutputError, pa.ArrowInvalid):  # the types that this process keeps may be old
            attempt.runtime.forget_types(attempt.job.target)
            was_last = _commit(attempt, keys, scored, bad, timing)
    except columns.DRIVER_ERRORS as error:
        if columns.is_repeated_key(error):
            attempt.runtime.data.rollback()
            raise AlreadyThere(columns.detail(error)) from None
        if database_errors.sqlstate(error) == NO_SUCH_CHARACTER and not quarantine.is_ascii(bad):
            attempt.runtime.data.rollback()
            return _commit_rows(attempt, keys, scored, quarantine.as_ascii(bad), timing)
        if database_errors.is_about_values(error):
            attempt.runtime.data.rollback()
        raise
    if bad:
        claim, first = attempt.claim, bad[0]
        emit(
            "rows.quarantined",
            run=claim.run_id,
            batch=claim.batch_id,
            attempt=claim.attempt,
            worker=attempt.runtime.name,
            rows=len(bad),
            key=list(first.key),
            error=f"{first.error_type}: {first.error}",
        )
        stop_if_too_many(attempt)
    return was_last


def _commit(
    attempt: Attempt, keys: pa.RecordBatch, scored: pa.RecordBatch, bad: tuple[BadRow, ...], timing: Timing | None
) -> bool:
    job, runtime = attempt.job, attempt.runtime
    types = runtime.types(job.target)
    if types.lacks_key and (twice := columns.repeated(without_changes(keys))) is not None:
        raise AlreadyThere(twice)
    stores_values = CHANGED_AT in keys.schema.names and CHANGED_AT in types.schema.names
    if stores_values and types.changed_at != job.run.job.changed_at:
        keys, bad = _without_values(keys, bad, types)
    table = columns.to_ingest(types, job.target, keys, scored, attempt.claim.batch_id, attempt.key_columns)
    seen = keys.column(SEEN).drop_null().to_pylist() if SEEN in keys.schema.names else ()
    part = Part(table, bad, attempt.key_columns, attempt.budget, types, tuple(seen))
    return columns.commit(runtime.data, attempt.claim, job.target, part, timing)


def _without_values(
    keys: pa.RecordBatch, bad: tuple[BadRow, ...], types: TableTypes
) -> tuple[pa.RecordBatch, tuple[BadRow, ...]]:
    """The rows as if they had no value in the `changed_at` column: the job has named another since the run began.

    So the next run scores them once more, by the other column.
    """
    nothing = pa.nulls(keys.num_rows, types.schema.field(CHANGED_AT).type)
    keys = keys.set_column(keys.schema.get_field_index(CHANGED_AT), CHANGED_AT, nothing)
    return keys, tuple(replace(row, row=replace(row.row, changed_at=None)) for row in bad)
