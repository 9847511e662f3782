"""Batches that a requeue puts back: pending again, with a new budget of attempts."""

from sqlalchemy import Connection, text

from db.batches import BatchId

AFRESH = "care = 0, probe_key = NULL, probe_expiries = 0"
"""What the deaths of earlier attempts taught is forgotten."""
_PENDING = (
    "UPDATE scorebeat.batches SET state = 'pending', attempts_left = :attempts, finished_at = NULL,"
    f" next_attempt_at = NULL, {AFRESH} WHERE run_id = :run_id"
    " AND (CAST(:batch_id AS bigint) IS NULL OR id = :batch_id)"
)


def requeue_dead(
    connection: Connection, run_id: int, attempts: int, batch_id: BatchId | None, error: str | None
) -> int:
    """Dead batches of the run, or the one, or those whose error holds the text, are pending with a new budget."""
    return connection.execute(
        text(f"{_PENDING} AND state = 'dead' AND (CAST(:error AS text) IS NULL OR position(:error IN error) > 0)"),
        {"run_id": run_id, "attempts": attempts, "batch_id": batch_id, "error": error},
    ).rowcount


def requeue_stopped(connection: Connection, run_id: int, attempts: int, batch_id: BatchId | None = None) -> int:
    """Batches that were stopped because their run failed as a whole, or the one, are pending again."""
    return connection.execute(
        text(f"{_PENDING} AND state = 'cancelled'"),
        {"run_id": run_id, "attempts": attempts, "batch_id": batch_id},
    ).rowcount


def next_number(connection: Connection, run_id: int) -> int:
    """For a batch that is added to a run that was planned before."""
    asked = text("SELECT coalesce(max(number), 0) + 1 FROM scorebeat.batches WHERE run_id = :run_id")
    return int(connection.execute(asked, {"run_id": run_id}).scalar_one())
