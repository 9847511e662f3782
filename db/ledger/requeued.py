"""Batches that a requeue puts back, pending again with a new budget of attempts; and which of them are meant."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from scorebeat.db.ledger import failure_groups
from scorebeat.db.ledger.batches import BatchId

AFRESH = "care = 0, probe_key = NULL, probe_expiries = 0"
"""What the deaths of earlier attempts taught is forgotten."""


@dataclass(frozen=True)
class Part:
    """Which of a run's failed work is meant: what fits each of these; all of it when none is given."""

    batch_id: BatchId | None = None
    error: str | None = None
    """A text that the error holds."""
    group: str | None = None
    """The id of a group of failures: those that it counts, and no others."""

    @property
    def is_by_error(self) -> bool:
        return self.error is not None or self.group is not None


EVERYTHING = Part()

_PENDING = (
    "UPDATE scorebeat.batches b SET state = 'pending', attempts_left = :attempts, finished_at = NULL,"
    f" next_attempt_at = NULL, pending_at = clock_timestamp(), {AFRESH} WHERE b.run_id = :run_id"
    " AND (CAST(:batch_id AS bigint) IS NULL OR b.id = :batch_id)"
)


def requeue_dead(connection: Connection, run_id: int, attempts: int, part: Part = EVERYTHING) -> int:
    """Dead batches of the run, of this part of it, are pending with a new budget."""
    return connection.execute(
        text(
            f"{_PENDING} AND b.state = 'dead' AND (CAST(:error AS text) IS NULL OR position(:error IN b.error) > 0)"
            f" AND (CAST(:group AS text) IS NULL OR {failure_groups.of_dead('b')} = :group)"
        ),
        {"run_id": run_id, "attempts": attempts, **vars(part)},
    ).rowcount


def requeue_stopped(connection: Connection, run_id: int, attempts: int, part: Part = EVERYTHING) -> int:
    """Batches that were stopped because their run failed as a whole, or the one, are pending again.

    None of them when an error is asked for: they were stopped by none of their own.
    """
    if part.is_by_error:
        return 0
    return connection.execute(
        text(f"{_PENDING} AND b.state = 'cancelled'"),
        {"run_id": run_id, "attempts": attempts, "batch_id": part.batch_id},
    ).rowcount


def has_batches(connection: Connection, run_id: int) -> bool:
    """There is something that a requeue may put back."""
    asked = text("SELECT EXISTS (SELECT FROM scorebeat.batches WHERE run_id = :run_id)")
    return bool(connection.execute(asked, {"run_id": run_id}).scalar_one())


def next_number(connection: Connection, run_id: int) -> int:
    """For a batch that is added to a run that was planned before."""
    asked = text("SELECT coalesce(max(number), 0) + 1 FROM scorebeat.batches WHERE run_id = :run_id")
    return int(connection.execute(asked, {"run_id": run_id}).scalar_one())
