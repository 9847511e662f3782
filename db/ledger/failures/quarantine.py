"""The `quarantine` table: rows quarantined with their error, one at a time, so that all others are committed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, text

from scorebeat.core.states import AttemptEnd
from scorebeat.core.table_names import CHANGED_AT
from scorebeat.db.connect.sql import Key, KeyColumn, ident
from scorebeat.db.ledger.failures import failure_groups
from scorebeat.db.ledger.failures.requeued import EVERYTHING, Part
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.records import usage
from scorebeat.db.source.changes import SEEN
from scorebeat.db.source.fetched_values import without_changes

if TYPE_CHECKING:
    from adbc_driver_manager.dbapi import Cursor


@dataclass(frozen=True)
class RowId:
    """A fetched row: its key; and of a job with `changed_at` what it was read with."""

    key: Key
    changed_at: str | None = None
    """The value of that column as a number in a text: microseconds since 1970, or the number itself."""
    seen: str | None = None
    """What is stored of the row, which it replaces: JSON for `replace_rows`."""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be scored, and why; `traceback` has lines of code, never values."""

    row: RowId
    error_type: str
    error: str
    traceback: str | None = None

    @property
    def key(self) -> Key:
        return self.row.key


def add(
    cursor: "Cursor", target: PredictionSet, keys: Sequence[KeyColumn], batch_id: int, bad: Sequence[BadRow]
) -> None:
    """Store bad rows in the transaction of the cursor, which commits the batch's good ones too.

    A row that another batch has scored or quarantined meanwhile stays as it is; without `keys` none can be scored.
    """
    rows = pa.table(
        {
            "key": [json.dumps(row.key) for row in bad],
            "type": [plain(row.error_type) for row in bad],
            "error": [plain(row.error) for row in bad],
            "traceback": pa.array([plain(row.traceback) if row.traceback else None for row in bad], pa.string()),
            "changed_at": pa.array([row.row.changed_at for row in bad], pa.string()),
        }
    )
    cursor.executemany(
        "INSERT INTO scorebeat.quarantine (prediction_set_id, batch_id, key, error_type, error, traceback, changed_at)"
        f" SELECT {target.id:d}, {batch_id:d}, n.key, $2::text, $3::text, $4::text, $5::text::numeric"
        f" FROM (SELECT CAST($1::text AS jsonb) AS key) n WHERE {unscored(target, keys, 'n.key')}"
        " ON CONFLICT DO NOTHING",
        rows,
    )


def is_ascii(bad: Sequence[BadRow]) -> bool:
    """Whether databases of any encoding can store the errors."""
    return all(f"{row.error_type}{row.error}{row.traceback}".isascii() for row in bad)


def as_ascii(bad: Sequence[BadRow]) -> tuple[BadRow, ...]:
    """The rows, with other characters in their errors escaped as in Python, such as \\u65e5."""
    return tuple(
        BadRow(
            row.row, _escaped(row.error_type), _escaped(row.error), _escaped(row.traceback) if row.traceback else None
        )
        for row in bad
    )


def _escaped(words: str) -> str:
    return words.encode("ascii", "backslashreplace").decode()


def unscored(target: PredictionSet, keys: Sequence[KeyColumn], key: str) -> str:
    """SQL condition: no prediction has the key; `key` is an SQL expression of a list of texts."""
    same = " AND ".join(f"p.{ident(k.name)} = ({key} ->> {i:d})::{k.type}" for i, k in enumerate(keys))
    return f"NOT EXISTS (SELECT 1 FROM {target.table} AS p WHERE {same})" if keys else "true"


def row_id(columns: pa.RecordBatch, index: int) -> RowId:
    """The row at this index of the keys of a fetch."""
    key = keys_of(columns, index)
    if CHANGED_AT not in columns.schema.names:
        return RowId(key)
    return RowId(key, _number(columns.column(CHANGED_AT)[index]), columns.column(SEEN)[index].as_py())


def keys_of(columns: pa.RecordBatch, index: int) -> Key:
    """The key of a fetched row as PostgreSQL writes it as text (sessions use UTC and ISO dates)."""
    return tuple(_text(column[index]) for column in without_changes(columns).columns)


@dataclass(frozen=True)
class TakenBack:
    """Rows that are pending again."""

    rows: int
    homeless: list[Key]
    """Keys of rows whose batch is final, and which need a new one."""
    freed: int
    """Number of batches that were in progress, and were taken from their workers."""


_TAKEN = (
    "count(*), sum(seconds), 0, sum(rows_left) FROM"
    f" (SELECT run_id, {usage.HARDWARE} AS device, {usage.device_seconds()} AS seconds, rows_left FROM was WHERE held)"
    " AS taken"
)
"""What the attempts used from which a batch is taken."""


def take_back(connection: Connection, run_id: int, part: Part = EVERYTHING) -> TakenBack:
    """Make rows of this part that the run quarantined pending again.

    Safe to repeat, and for two people at once. If their batch is in progress, it is taken from its worker, which may
    have fetched the rows before: with a batch of their own two workers would score them at once. If their batch is
    final, they need a batch of their own.
    """
    rows = connection.execute(
        text(
            "WITH gone AS (DELETE FROM scorebeat.quarantine z USING scorebeat.batches b WHERE b.id = z.batch_id"
            " AND b.run_id = :run_id AND (CAST(:batch_id AS bigint) IS NULL OR b.id = :batch_id)"
            " AND (CAST(:error AS text) IS NULL OR position(:error IN z.error_type || ': ' || z.error) > 0)"
            f" AND (CAST(:group AS text) IS NULL OR {failure_groups.of_quarantined('z')} = :group)"
            " RETURNING z.batch_id, z.key),"
            " counts AS (SELECT batch_id, count(*) AS rows FROM gone GROUP BY batch_id),"
            " was AS (SELECT id, run_id, device, claimed_by, claimed_at,"
            " rows_planned - rows_scored - rows_failed AS rows_left, state, state = 'claimed' AS held"
            " FROM scorebeat.batches WHERE id IN (SELECT batch_id FROM counts) FOR UPDATE),"
            " fewer AS (UPDATE scorebeat.batches b SET rows_failed = b.rows_failed - counts.rows,"
            " rows_planned = b.rows_planned - CASE WHEN b.state IN ('pending', 'claimed') THEN 0 ELSE counts.rows END,"
            " state = CASE WHEN was.held THEN 'pending' ELSE b.state END,"
            " claim_expires_at = CASE WHEN was.held THEN NULL ELSE b.claim_expires_at END,"
            " attempts_left = b.attempts_left + was.held::int,"
            " probe_key = CASE WHEN was.held THEN NULL ELSE b.probe_key END"
            " FROM counts JOIN was ON was.id = counts.batch_id WHERE b.id = counts.batch_id),"
            f" used AS ({usage.adding(AttemptEnd.RELEASED, _TAKEN)})"
            " SELECT gone.batch_id, gone.key, was.state FROM gone JOIN was ON was.id = gone.batch_id"
        ),
        {"run_id": run_id, **vars(part)},
    )
    taken = sorted((row[0], tuple(row[1]), row[2]) for row in rows)
    homeless = [key for _, key, state in taken if state not in ("pending", "claimed")]
    return TakenBack(len(taken), homeless, len({batch for batch, _, state in taken if state == "claimed"}))


def plain(words: str) -> str:
    """The text without NUL, which PostgreSQL refuses, and without lone surrogates, which UTF-8 cannot encode."""
    return words.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def _text(value: pa.Scalar) -> str:
    """A key's value as text. Dates and timestamps are read as integers: Python has no year 0 or 10,000, no infinity."""
    match value:
        case pa.Date32Scalar():
            return _infinity(_wrapped(value.value - _EPOCH_DAYS, 32), 32) or _day(value.value, "")
        case pa.TimestampScalar():
            since_2000 = _wrapped(value.value - _EPOCH_DAYS * _DAY, 64)
            return _infinity(since_2000, 64) or _timestamp(since_2000, "+00" if value.type.tz else "")
        case pa.StructScalar():  # a key that is stored as PostgreSQL sends it, with its text
            return str(value["text"].as_py())
        case pa.BooleanScalar():
            return "true" if value.as_py() else "false"
    plain = value.as_py()
    if not isinstance(plain, int | str | UUID):
        raise TypeError(f"a key cannot be a {type(plain).__name__}")
    return str(plain)


def _number(value: pa.Scalar) -> str | None:
    """`RowId.changed_at` of a fetched value."""
    if not value.is_valid:
        return None
    if isinstance(value, pa.TimestampScalar):
        return str(_wrapped(value.value - _EPOCH_DAYS * _DAY, 64) + _EPOCH_DAYS * _DAY)
    return str(value.as_py())


_EPOCH_DAYS = 10_957
"""Days from 1970, the epoch of Arrow, to 2000, that of PostgreSQL."""
_DAY = 86_400_000_000
"""Microseconds."""


def _wrapped(number: int, bits: int) -> int:
    """The driver shifts the epoch without a range check, so infinity wraps around; this wraps it back."""
    half = 1 << (bits - 1)
    return (number + half) % (2 * half) - half


def _infinity(number: int, bits: int) -> str | None:
    return {(1 << (bits - 1)) - 1: "infinity", -(1 << (bits - 1)): "-infinity"}.get(number)


def _day(since_1970: int, rest: str) -> str:
    """The date as text, with `rest` between the date and the era."""
    year, month, day = str(np.datetime64(since_1970, "D")).rsplit("-", 2)
    era = "" if int(year) > 0 else " BC"
    return f"{int(year) if not era else 1 - int(year):04d}-{month}-{day}{rest}{era}"


def _timestamp(since_2000: int, zone: str) -> str:
    days, rest = divmod(since_2000, _DAY)
    seconds, micros = divmod(rest, 1_000_000)
    fraction = f".{micros:06d}".rstrip("0") if micros else ""
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return _day(days + _EPOCH_DAYS, f" {clock}{fraction}{zone}")
