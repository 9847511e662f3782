"""The end of a run: the final states of its batches, and the move to its own."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from scorebeat.core.states import RunState
from scorebeat.db.ledger import next_step
from scorebeat.db.ledger.runs import Run

CUT_SHORT = "planning was cut short; the rows that were not planned stay pending for the next run"
"""The reason of a run that failed while it was planned, and was requeued."""


def is_settled_sql(run_id: str) -> str:
    """SQL condition: no batch of the run is open any more (the partial index holds only open ones)."""
    return f"NOT EXISTS (SELECT 1 FROM scorebeat.batches WHERE run_id = {run_id} AND state IN ('pending', 'claimed'))"


def is_settled(connection: Connection, run_id: int) -> bool:
    return bool(connection.execute(text(f"SELECT {is_settled_sql(':id')}"), {"id": run_id}).scalar_one())


@dataclass(frozen=True)
class Tally:
    """Final counts of a run's batches and rows."""

    batches: int
    dead: int
    cancelled: int
    """Batches that were stopped when the run failed as a whole, and that no requeue put back."""
    failed: int
    """Quarantined rows."""
    scored: int
    error: str | None
    """The error of the first dead batch, or of a quarantined row."""
    plan_is_whole: bool
    reason: str | None
    """Why the plan was cut short, if it is known."""

    @property
    def has_looked_at_all(self) -> bool:
        """No row was left out: each has a prediction or was quarantined."""
        return self.plan_is_whole and self.dead + self.cancelled == 0

    @property
    def can_be_shown(self) -> bool:
        """Whether it can be shown as a generation: no row was left out, and not all of them were quarantined."""
        return self.has_looked_at_all and (self.scored > 0 or self.failed == 0)

    @property
    def has_found_nothing(self) -> bool:
        """There was no row to look at."""
        return self.has_looked_at_all and self.scored + self.failed == 0

    @property
    def has_scored_all(self) -> bool:
        return self.has_looked_at_all and self.failed == 0


def is_done(connection: Connection, run_id: int) -> bool:
    """Whether the run is running and has no open batch; its row stays locked for the transaction.

    The lock is a statement of its own, so that the next one sees the batches that a requeue committed before.
    If somebody else holds the lock, False is returned at once: the next control tick checks again.
    """
    locked = connection.execute(
        text("SELECT 1 FROM scorebeat.runs WHERE id = :id AND state = 'running' FOR UPDATE SKIP LOCKED"),
        {"id": run_id},
    ).one_or_none()
    return locked is not None and is_settled(connection, run_id)


def tally(connection: Connection, run_id: int) -> Tally:
    """Sum up the run's batches."""
    row = connection.execute(
        text(
            "SELECT count(b.id) AS batches, count(*) FILTER (WHERE b.state = 'dead') AS dead,"
            " count(*) FILTER (WHERE b.state = 'cancelled') AS cancelled,"
            " coalesce(sum(b.rows_failed), 0)::bigint AS failed, coalesce(sum(b.rows_scored), 0)::bigint AS scored,"
            " left(coalesce((array_agg(b.error ORDER BY b.id) FILTER (WHERE b.state = 'dead'))[1],"
            " (SELECT q.error_type || ': ' || q.error FROM scorebeat.quarantine q"
            " JOIN scorebeat.batches z ON z.id = q.batch_id WHERE z.run_id = :id LIMIT 1)), 500) AS error,"
            " r.plan_is_whole, r.reason"
            " FROM scorebeat.runs r LEFT JOIN scorebeat.batches b ON b.run_id = r.id WHERE r.id = :id GROUP BY r.id"
        ),
        {"id": run_id},
    ).one()
    return Tally(**row._mapping)


def settle(connection: Connection, run: Run, found: Tally) -> RunState:
    """Close a run that is done: succeeded if all rows were scored, failed if none was tried, else partial."""
    state = RunState.PARTIAL
    if found.has_scored_all:
        state = RunState.SUCCEEDED
    elif found.dead + found.cancelled and found.scored + found.failed == 0:
        state = RunState.FAILED
    connection.execute(
        text(
            "UPDATE scorebeat.runs SET finished_at = clock_timestamp(), state = :state,"
            " reason = coalesce(:reason, reason) WHERE id = :id AND state = 'running'"
        ),
        {"id": run.id, "state": state, "reason": left_out(found, run)},
    )
    return state


def left_out(found: Tally, run: Run) -> str | None:
    """What the run left out, and the command to type next; None if nothing was left out."""
    parts = []
    if found.dead:
        parts.append(f"{found.dead} of {found.batches} batches are dead, the first by: {found.error}")
    if found.cancelled:
        parts.append(f"{found.cancelled} of {found.batches} batches were stopped")
    if not found.plan_is_whole:
        parts.append(found.reason or CUT_SHORT)
    if not parts:
        return None
    return "; ".join([*parts, next_step.of(run)])


def dead_in_a_row(connection: Connection, job: str, count: int) -> str | None:
    """An error of the newest run, if each of the last `count` finished runs since a resume has dead batches."""
    rows = connection.execute(
        text(
            "SELECT (SELECT left(min(error), 500) FROM scorebeat.batches b"
            " WHERE b.run_id = r.id AND b.state = 'dead') FROM scorebeat.runs r"
            " WHERE r.job = :job AND r.finished_at IS NOT NULL AND r.state <> 'cancelled'"
            " AND r.created_at > coalesce((SELECT max(a.at) FROM scorebeat.actions a"
            " WHERE a.action = 'job.resumed' AND a.subject = 'job ' || :job), '-infinity')"
            " ORDER BY r.id DESC LIMIT :count"
        ),
        {"job": job, "count": count},
    ).scalars()
    errors = list(rows)
    return str(errors[0]) if len(errors) == count and all(e is not None for e in errors) else None


def settling(connection: Connection) -> list[int]:
    """Running runs whose batches are all final."""
    rows = connection.execute(
        text(
            "SELECT r.id FROM scorebeat.runs r WHERE r.state = 'running' AND NOT EXISTS (SELECT 1"
            " FROM scorebeat.batches b WHERE b.run_id = r.id AND b.state IN ('pending', 'claimed'))"
        )
    )
    return [row[0] for row in rows]
