"""The `quarantine` table: rows put aside with their error, one at a time, so that all others are committed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pyarrow as pa
from adbc_driver_manager.dbapi import Cursor
from sqlalchemy import Connection, text

from db.sql import Key


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be scored, and why; `traceback` names places in code, never values."""

    key: Key
    error_type: str
    error: str
    traceback: str | None = None


def put_aside(cursor: Cursor, set_id: int, batch_id: int, bad: Sequence[BadRow]) -> None:
    """Store bad rows in the transaction of the cursor, which commits the batch's good ones too."""
    rows = pa.table(
        {
            "key": [json.dumps(row.key) for row in bad],
            "type": [_plain(row.error_type) for row in bad],
            "error": [_plain(row.error) for row in bad],
            "traceback": pa.array([_plain(row.traceback) if row.traceback else None for row in bad], pa.string()),
        }
    )
    cursor.executemany(
        "INSERT INTO scorebeat.quarantine (prediction_set_id, batch_id, key, error_type, error, traceback)"
        f" VALUES ({set_id:d}, {batch_id:d}, CAST($1::text AS jsonb), $2::text, $3::text, $4::text)"
        " ON CONFLICT DO NOTHING",
        rows,
    )


def keys_of(columns: pa.RecordBatch, index: int) -> Key:
    """The key of a fetched row as PostgreSQL writes it as text (sessions use UTC and ISO dates)."""
    return tuple(_text(column[index].as_py()) for column in columns.columns)


def count_of_run(connection: Connection, run_id: int) -> tuple[int, int]:
    """Rows put aside and rows planned in the run."""
    row = connection.execute(
        text(
            "SELECT coalesce(sum(rows_failed), 0), coalesce(sum(rows_planned), 0)"
            " FROM scorebeat.batches WHERE run_id = :run_id"
        ),
        {"run_id": run_id},
    ).one()
    return int(row[0]), int(row[1])


def take_back(
    connection: Connection, run_id: int, batch_id: int | None = None, error: str | None = None
) -> list[tuple[int, Key]]:
    """Rows that the run put aside are pending again: all, of one batch, or whose error holds a text.

    Answers the batch and key of each; safe to repeat, and by two people at once.
    """
    rows = connection.execute(
        text(
            "WITH gone AS (DELETE FROM scorebeat.quarantine z USING scorebeat.batches b WHERE b.id = z.batch_id"
            " AND b.run_id = :run_id AND (CAST(:batch_id AS bigint) IS NULL OR b.id = :batch_id)"
            " AND (CAST(:error AS text) IS NULL OR position(:error IN z.error_type || ': ' || z.error) > 0)"
            " RETURNING z.batch_id, z.key),"
            " counts AS (SELECT batch_id, count(*) AS rows FROM gone GROUP BY batch_id),"
            " fewer AS (UPDATE scorebeat.batches b SET rows_failed = b.rows_failed - counts.rows FROM counts"
            " WHERE b.id = counts.batch_id)"
            " SELECT batch_id, key FROM gone"
        ),
        {"run_id": run_id, "batch_id": batch_id, "error": error},
    )
    return sorted((row[0], tuple(row[1])) for row in rows)


def _plain(words: str) -> str:
    """PostgreSQL's text holds no NUL, and UTF-8 no lone surrogate."""
    return words.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def _text(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case datetime():
            moment = value.astimezone(UTC) if value.tzinfo else value
            fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
            return f"{moment:%Y-%m-%d %H:%M:%S}{fraction}{'+00' if value.tzinfo else ''}"
        case date():
            return value.isoformat()
        case int() | str() | UUID():
            return str(value)
        case _:
            raise TypeError(f"a key cannot be a {type(value).__name__}")
