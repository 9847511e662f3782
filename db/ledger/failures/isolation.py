"""Careful mode: after a death a batch is scored in chunks, then row by row, until the deadly row is known."""

import json
from collections.abc import Sequence
from enum import IntEnum

from sqlalchemy import Connection, text

from scorebeat.db.connect.sql import Key, KeyColumn
from scorebeat.db.ledger.batches import IS_CLAIMED, Claim
from scorebeat.db.ledger.failures import quarantine
from scorebeat.db.ledger.failures.quarantine import RowId
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.schema import functions

CHUNK_ROWS = 512


class Care(IntEnum):
    """How carefully a batch is scored; each death makes it more careful."""

    WHOLE = 0
    CHUNKS = 1
    ROWS = 2


def probe(connection: Connection, held: Claim, row: RowId) -> bool:
    """Record the row that is scored next, alone; False if the claim was lost.

    If the process dies with it, the next claim finds the key and quarantines the row. If the claim only expires,
    the row gets another chance first: its process may only have lost the database.
    """
    moved = connection.execute(
        text(
            "UPDATE scorebeat.batches SET probe_key = CAST(:key AS jsonb), probe_row = CAST(:row AS jsonb),"
            " probe_attempt = attempt, care = 2,"
            " probe_expiries = CASE WHEN probe_key = CAST(:key AS jsonb) THEN probe_expiries ELSE 0 END"
            f" WHERE id = :id AND attempt = :attempt AND {IS_CLAIMED}"
        ),
        {
            "id": held.batch_id,
            "attempt": held.attempt,
            "key": json.dumps(row.key),
            "row": json.dumps({"changed_at": row.changed_at, "seen": row.seen}),
        },
    )
    return moved.rowcount == 1


def quarantine_probe(
    connection: Connection, held: Claim, target: PredictionSet, keys: Sequence[KeyColumn], budget: int
) -> Key | None:
    """Quarantine the row with which the last attempt died; the death is its error.

    Returns its key; None if there was no probe, the claim was lost, or the row has a prediction. It counts as progress:
    the attempts are restored, and the rest is scored in chunks again.
    """
    seen = connection.execute(
        text(
            "SELECT CAST(probe_row ->> 'seen' AS jsonb) FROM scorebeat.batches WHERE id = :id AND attempt = :attempt"
            f" AND {IS_CLAIMED} AND probe_key IS NOT NULL AND probe_row ->> 'seen' IS NOT NULL FOR UPDATE"
        ),
        {"id": held.batch_id, "attempt": held.attempt},
    ).scalar_one_or_none()
    if seen is not None:  # what was stored of an older version of the row
        functions.call(connection, "replace_rows", target.id, json.dumps([seen]))
    row = connection.execute(
        text(
            "WITH held AS (SELECT id, probe_key, CAST(probe_row ->> 'changed_at' AS numeric) AS changed_at, error"
            " FROM scorebeat.batches WHERE id = :id"
            f" AND attempt = :attempt AND {IS_CLAIMED} AND probe_key IS NOT NULL FOR UPDATE),"
            " quarantined AS (INSERT INTO scorebeat.quarantine"
            " (prediction_set_id, batch_id, key, error_type, error, changed_at)"
            " SELECT :set_id, id, probe_key, 'ProcessDied',"
            " 'scoring this row alone ended the process: ' || coalesce(error, 'no reason was recorded'), changed_at"
            f" FROM held WHERE {quarantine.unscored(target, keys, 'held.probe_key')}"
            " ON CONFLICT DO NOTHING RETURNING key)"
            " UPDATE scorebeat.batches b SET probe_key = NULL, care = 1,"
            " rows_failed = b.rows_failed + (SELECT count(*) FROM quarantined),"
            " attempts_left = greatest(b.attempts_left, :budget) FROM held WHERE b.id = held.id"
            " RETURNING (SELECT key FROM quarantined)"
        ),
        {"id": held.batch_id, "attempt": held.attempt, "set_id": target.id, "budget": budget},
    ).scalar_one_or_none()
    return tuple(row) if row is not None else None


def calm_down(connection: Connection, held: Claim) -> None:
    """The rows of a chunk were scored one by one without a death: score chunks again."""
    connection.execute(
        text(
            "UPDATE scorebeat.batches SET care = 1, probe_key = NULL"
            f" WHERE id = :id AND attempt = :attempt AND {IS_CLAIMED}"
        ),
        {"id": held.batch_id, "attempt": held.attempt},
    )
