"""Batches that a requeue puts back, pending again with new attempts; and the part of a run that is requeued."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from scorebeat.db.ledger.batches import BatchId
from scorebeat.db.ledger.failures import failure_groups

AFRESH = "care = 0, probe_key = NULL, probe_expiries = 0"
"""Forgets the deaths of earlier attempts."""


@dataclass(frozen=True)
class Part:
    """A part of a run's failed work: what fits all of these, or all of it if all are None."""

    batch_id: BatchId | None = None
    error: str | None = None
    """A text that the error contains."""
    group: str | None = None
    """The id of a group of failures."""

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
    """Make dead batches of this part of the run pending, with new attempts. Returns how many."""
    return connection.execute(
        text(
            f"{_PENDING} AND b.state = 'dead' AND (CAST(:error AS text) IS NULL OR position(:error IN b.error) > 0)"
            f" AND (CAST(:group AS text) IS NULL OR {failure_groups.of_dead('b')} = :group)"
        ),
        {"run_id": run_id, "attempts": attempts, **vars(part)},
    ).rowcount


def requeue_stopped(connection: Connection, run_id: int, attempts: int, part: Part = EVERYTHING) -> int:
    """Make batches pending that were stopped because their run failed as a whole, or the one of `part`.

    A part by error has none of them: no error of their own stopped them.
    """
    if part.is_by_error:
        return 0
    return connection.execute(
        text(f"{_PENDING} AND b.state = 'cancelled'"),
        {"run_id": run_id, "attempts": attempts, "batch_id": part.batch_id},
    ).rowcount


def has_batches(connection: Connection, run_id: int) -> bool:
    """Whether the run has batches, which a requeue may put back."""
    query = text("SELECT EXISTS (SELECT FROM scorebeat.batches WHERE run_id = :run_id)")
    return bool(connection.execute(query, {"run_id": run_id}).scalar_one())


def next_number(connection: Connection, run_id: int) -> int:
    """The number for a batch that is added to a run that was planned before."""
    query = text("SELECT coalesce(max(number), 0) + 1 FROM scorebeat.batches WHERE run_id = :run_id")
    return int(connection.execute(query, {"run_id": run_id}).scalar_one())
