"""Batch rows: every statement that moves a batch between states."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, text

from scorebeat.core.states import AttemptEnd
from scorebeat.db.connect.locks import WAITS
from scorebeat.db.connect.sql import Key, KeyRange
from scorebeat.db.records import usage

BatchId = int
IS_PENDING = "claim_expires_at IS NULL AND finished_at IS NULL"
IS_CLAIMED = "claim_expires_at IS NOT NULL"
"""SQL: the state by the table's CHECKs, for statements that name a batch by its id. Here `state` would be misleading:
from statistics of a time without work PostgreSQL believes that the indexes of pending, claimed and open batches are
empty, and reads all of one instead of looking up the id. It knows no index for these words.
"""


@dataclass(frozen=True)
class NewBatch:
    """A batch as the plan cuts it; it has `keys` only if pending rows are sparse or hand-picked."""

    number: int
    rows: int
    span: KeyRange
    keys: tuple[Key, ...] | None = None


@dataclass(frozen=True)
class Claim:
    """A worker's claim of a batch, for a limited time; every later move names the attempt."""

    batch_id: BatchId
    run_id: int
    attempt: int
    attempts_left: int
    rows_planned: int
    span: KeyRange
    keys: tuple[Key, ...] | None
    care: int = 0
    """How carefully it has to be scored: `db.ledger.failures.isolation`."""
    probe_is_deadly: bool = False
    """A row that was scored alone ended its process, or two claims expired with it."""
    has_waited: bool = False
    """Its last attempt waited for a lock: the run's other batches are held back until it gets through."""
    has_progress: bool = False
    """Some of its rows were scored or quarantined by an earlier attempt."""
    number: int = 0
    """1, 2, ... within the run."""

    def __str__(self) -> str:
        return f"batch {self.batch_id}: attempt {self.attempt}"


def add(connection: Connection, run_id: int, queue: str, attempts: int, new: Sequence[NewBatch]) -> None:
    """Planned batches become pending. The caller holds the planning lease in this transaction."""
    rows = [
        {
            "number": b.number,
            "rows": b.rows,
            "first": b.span.first,
            "last": b.span.last,
            "keys": b.keys,
            "first_row": b.span.numbers and b.span.numbers[0],
            "last_row": b.span.numbers and b.span.numbers[1],
        }
        for b in new
    ]
    connection.execute(
        text(
            "INSERT INTO scorebeat.batches"
            " (run_id, number, queue, rows_planned, first_key, last_key, keys, attempts_left, rank, first_row,"
            " last_row) SELECT r.id, b.number, :queue, b.rows, b.first, b.last, nullif(b.keys, 'null'), :attempts,"
            " r.rank, b.first_row, b.last_row FROM scorebeat.runs r, jsonb_to_recordset(CAST(:new AS jsonb))"
            " AS b(number int, rows int, first jsonb, last jsonb, keys jsonb, first_row bigint, last_row bigint)"
            " WHERE r.id = :run_id"
        ),
        {"run_id": run_id, "queue": queue, "attempts": attempts, "new": json.dumps(rows)},
    )


_WAITED = f"coalesce(starts_with(error, '{WAITS}'), false)"


def claim(
    connection: Connection, batch_id: BatchId, worker: str, ttl: timedelta, device: str = "cpu", pid: int | None = None
) -> Claim | None:
    """Claim the batch for `ttl`; None if it is claimed, finished or not due, or if its run is closed.

    The attempt is counted here, before any work, so that an attempt that kills its process counts. `pid` is the
    worker's process that claims it.
    """
    row = connection.execute(
        text(
            "UPDATE scorebeat.batches b SET state = 'claimed', attempt = attempt + 1,"
            " attempts_left = attempts_left - 1, claimed_by = :worker, device = :device, claimed_pid = :pid,"
            " claimed_at = clock_timestamp(), claim_expires_at = clock_timestamp() + :ttl,"
            " sent_at = NULL, next_attempt_at = NULL"
            f" WHERE b.id = :id AND {IS_PENDING} AND b.attempts_left > 0"
            " AND (b.next_attempt_at IS NULL OR b.next_attempt_at <= clock_timestamp())"
            # not joined: for the same reason all open runs would be read
            " AND (SELECT r.state FROM scorebeat.runs r WHERE r.id = b.run_id) IN ('planning', 'running')"
            " RETURNING b.id, b.run_id, b.attempt, b.attempts_left, b.rows_planned, b.first_key, b.last_key, b.keys,"
            " b.first_row, b.last_row, b.number,"
            f" b.care, b.probe_key IS NOT NULL AND b.probe_expiries >= {PROOF} AS probe_is_deadly,"
            f" {_WAITED} AS has_waited, b.rows_scored + b.rows_failed > 0 AS has_progress"
        ),
        {"id": batch_id, "worker": worker, "ttl": ttl, "device": device, "pid": pid},
    ).one_or_none()
    if row is None:
        return None
    return Claim(
        batch_id=row.id,
        run_id=row.run_id,
        attempt=row.attempt,
        attempts_left=row.attempts_left,
        rows_planned=row.rows_planned,
        number=row.number,
        span=KeyRange(
            tuple(row.first_key),
            tuple(row.last_key),
            None if row.first_row is None else (row.first_row, row.last_row),
        ),
        keys=tuple(tuple(key) for key in row.keys) if row.keys is not None else None,
        care=row.care,
        probe_is_deadly=row.probe_is_deadly,
        has_waited=row.has_waited,
        has_progress=row.has_progress,
    )


def renew(connection: Connection, batch_ids: Sequence[BatchId], worker: str, ttl: timedelta) -> int:
    """The worker's parent still runs these: their claims last `ttl` from now. Returns how many it held."""
    return connection.execute(
        text(
            "WITH held AS (SELECT id FROM scorebeat.batches WHERE id = ANY (:ids)"
            " AND claimed_by = :worker AND claim_expires_at > clock_timestamp() FOR UPDATE SKIP LOCKED)"
            " UPDATE scorebeat.batches b SET claim_expires_at = clock_timestamp() + :ttl FROM held"
            " WHERE b.id = held.id"
        ),
        {"ids": list(batch_ids), "worker": worker, "ttl": ttl},
    ).rowcount


_GIVE_UP = (
    "state = CASE WHEN attempts_left > 0 THEN 'pending' ELSE 'dead' END, claim_expires_at = NULL,"
    " finished_at = CASE WHEN attempts_left > 0 THEN NULL ELSE clock_timestamp() END, error = "
)
_AFTER_A_DEATH = ", care = least(care + 1, 2)"
"""The next attempt is more careful."""
_SCORED_ALONE = "probe_attempt = attempt"
"""The attempt reached its row: one that died earlier proves nothing about the row."""
_ERROR_BEFORE = (
    "CASE WHEN error LIKE 'attempt % expired: %' THEN substring(error FROM '; before that: (.*)$') ELSE error END"
)
"""The error of an earlier attempt, however many expired since."""
PROOF = 2
"""Claims that expired with the same row in progress: the first may only have lost the database."""
_DIE = "state = 'dead', attempts_left = 0, claim_expires_at = NULL, finished_at = clock_timestamp(), error = "


def fail(connection: Connection, held: Claim, error: str, pause: timedelta, cpu: float = 0.0) -> str | None:
    """The attempt failed: the batch is pending again after `pause`, or dead if no attempts are left.

    Its process lives, so a row that it scored alone is not to blame. It used `cpu` seconds of CPU time. Returns the new
    state; None if the claim was lost meanwhile, and nothing was changed.
    """
    return _finish_badly(
        connection,
        held,
        AttemptEnd.FAILED,
        f"{_GIVE_UP} :error, probe_key = NULL,"
        " next_attempt_at = CASE WHEN attempts_left > 0 THEN clock_timestamp() + CAST(:pause AS interval) END",
        {"error": error, "pause": pause, "cpu": cpu},
    )


def postpone(connection: Connection, held: Claim, error: str, pause: timedelta, cpu: float = 0.0) -> str | None:
    """The attempt came at the wrong time, and the batch is not to blame: it is pending again with the attempt restored.

    Returns the new state, as `fail` does.
    """
    return _finish_badly(
        connection,
        held,
        AttemptEnd.WAITED,
        "state = 'pending', claim_expires_at = NULL, attempts_left = attempts_left + 1, probe_key = NULL,"
        " next_attempt_at = clock_timestamp() + CAST(:pause AS interval), error = :error",
        {"error": error, "pause": pause, "cpu": cpu},
    )


def hold_back(connection: Connection, run_id: int, pause: timedelta) -> int:
    """The run's other pending batches would meet the same lock: they are due after `pause`, or when one gets through.

    Returns how many. A message that was sent for one of them finds it not due; it is sent again when it is due.
    """
    return connection.execute(
        text(
            "WITH others AS (SELECT id FROM scorebeat.batches WHERE run_id = :run_id AND state = 'pending'"
            " AND (next_attempt_at IS NULL OR next_attempt_at < clock_timestamp() + CAST(:pause AS interval))"
            " FOR UPDATE SKIP LOCKED) UPDATE scorebeat.batches b SET sent_at = NULL,"
            " next_attempt_at = clock_timestamp() + CAST(:pause AS interval) FROM others WHERE b.id = others.id"
        ),
        {"run_id": run_id, "pause": pause},
    ).rowcount


def let_go(connection: Connection, run_id: int) -> int:
    """A batch of the run got through: those that were held back are due. Returns how many."""
    return connection.execute(
        text(
            "WITH others AS (SELECT id FROM scorebeat.batches WHERE run_id = :run_id AND state = 'pending'"
            f" AND next_attempt_at > clock_timestamp() AND (error IS NULL OR {_WAITED}) FOR UPDATE SKIP LOCKED)"
            " UPDATE scorebeat.batches b SET next_attempt_at = NULL FROM others WHERE b.id = others.id"
        ),
        {"run_id": run_id},
    ).rowcount


def kill(connection: Connection, held: Claim, error: str, cpu: float = 0.0) -> str | None:
    """The attempt failed in a way that no other attempt can repair: dead, even if attempts are left."""
    return _finish_badly(connection, held, AttemptEnd.FAILED, f"{_DIE} :error", {"error": error, "cpu": cpu})


def _finish_badly(
    connection: Connection, held: Claim, end: AttemptEnd, move: str, values: dict[str, object]
) -> str | None:
    update = f"UPDATE scorebeat.batches SET {move} WHERE id = :id AND attempt = :attempt AND {IS_CLAIMED}"
    moved = connection.execute(
        text(f"WITH {usage.ended(update, end, cpu='CAST(:cpu AS float8)')}"),
        {"id": held.batch_id, "attempt": held.attempt, **values},
    ).one_or_none()
    return str(moved.state) if moved is not None else None


def fail_lost(connection: Connection, batch_id: BatchId, worker: str, pid: int | None, error: str) -> str | None:
    """The worker's parent saw its process `pid` die with this batch: free that process's claim at once.

    Returns the new state; None if another process has claimed the batch by now, even one of the same worker. A row that
    was scored alone is to blame.
    """
    update = (
        f"UPDATE scorebeat.batches SET {_GIVE_UP} :error, next_attempt_at = NULL{_AFTER_A_DEATH},"
        f" probe_expiries = CASE WHEN {_SCORED_ALONE} THEN {PROOF} ELSE probe_expiries END"
        f" WHERE id = :id AND {IS_CLAIMED} AND claimed_by = :worker AND claimed_pid = :pid"
    )
    moved = connection.execute(
        text(f"WITH {usage.ended(update, AttemptEnd.LOST)}"),
        {"id": batch_id, "worker": worker, "pid": pid, "error": error},
    ).one_or_none()
    return str(moved.state) if moved is not None else None


def rescue(connection: Connection) -> list[tuple[BatchId, int, str]]:
    """Free expired claims, except one whose worker is committing now. Returns (batch, run, new state) of each.

    Its process may live, cut off from the database: a row that was scored alone gets another chance. The attempt is
    lost, and counts until the claim expired, though its process may have died earlier.
    """
    update = (
        f"UPDATE scorebeat.batches SET {_GIVE_UP} 'attempt ' || attempt || ' expired: '"
        " || coalesce(claimed_by, 'nobody') || ' died or lost the database'"
        f" || coalesce('; before that: ' || {_ERROR_BEFORE}, ''),"
        f" next_attempt_at = NULL{_AFTER_A_DEATH}, probe_expiries = CASE WHEN {_SCORED_ALONE}"
        f" THEN least(probe_expiries + 1, {PROOF}) ELSE probe_expiries END FROM expired WHERE id = expired_id"
    )
    rows = connection.execute(
        text(
            "WITH expired AS MATERIALIZED (SELECT id AS expired_id, claim_expires_at AS expired_at"
            " FROM scorebeat.batches WHERE state = 'claimed' AND claim_expires_at < clock_timestamp()"
            f" FOR UPDATE SKIP LOCKED), {usage.ended(update, AttemptEnd.LOST, until='expired_at')}"
        )
    )
    return [(row[0], row[1], row[2]) for row in rows]


def release_all(connection: Connection, worker: str) -> int:
    """The worker stops and does not finish its batches: pending at once, attempts restored, attempt numbers kept."""
    update = (
        "UPDATE scorebeat.batches SET state = 'pending', claim_expires_at = NULL,"
        " attempts_left = attempts_left + 1, next_attempt_at = NULL, probe_key = NULL"
        " WHERE claimed_by = :worker AND state = 'claimed'"
    )
    moved = connection.execute(text(f"WITH {usage.ended(update, AttemptEnd.RELEASED)}"), {"worker": worker})
    return len(moved.all())


def is_held(connection: Connection, worker: str) -> bool:
    """Whether a process of the worker has a batch in progress."""
    query = text("SELECT EXISTS (SELECT FROM scorebeat.batches WHERE claimed_by = :worker AND state = 'claimed')")
    return bool(connection.execute(query, {"worker": worker}).scalar_one())


def cancel(connection: Connection, run_id: int) -> int:
    """Open batches of the run are cancelled; a worker that holds one cannot commit it any more."""
    values = {"run_id": run_id}
    cancelled = "UPDATE scorebeat.batches SET state = 'cancelled', claim_expires_at = NULL, sent_at = NULL,"
    cancelled += " finished_at = clock_timestamp() WHERE run_id = :run_id AND state"
    ended = usage.ended(f"{cancelled} = 'claimed'", AttemptEnd.CANCELLED)
    held = connection.execute(text(f"WITH {ended}"), values).all()
    return len(held) + connection.execute(text(f"{cancelled} IN ('pending', 'claimed')"), values).rowcount
