"""The end of a run: what became of its batches, and the move to its final state."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from core.states import RunState


def is_settled(connection: Connection, run_id: int) -> bool:
    """No batch of the run is open any more (the partial index holds only open ones)."""
    return bool(
        connection.execute(
            text(
                "SELECT NOT EXISTS (SELECT 1 FROM scorebeat.batches"
                " WHERE run_id = :id AND state IN ('pending', 'claimed'))"
            ),
            {"id": run_id},
        ).scalar_one()
    )


@dataclass(frozen=True)
class Tally:
    """What became of a run's batches and rows."""

    batches: int
    dead: int
    failed: int
    """Rows put aside."""
    scored: int
    error: str | None
    """Of the first dead batch, or of a row put aside."""


def is_done(connection: Connection, run_id: int) -> bool:
    """The run is running and has no open batch; its row stays locked for the transaction.

    The lock is a statement of its own, so that the look at the batches sees what a requeue committed before.
    Whoever else has it is not waited for: the next control tick looks again.
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
            "SELECT count(*) AS batches, count(*) FILTER (WHERE state = 'dead') AS dead,"
            " coalesce(sum(rows_failed), 0)::bigint AS failed, coalesce(sum(rows_scored), 0)::bigint AS scored,"
            " left(coalesce((array_agg(error ORDER BY id) FILTER (WHERE state = 'dead'))[1],"
            " (SELECT q.error_type || ': ' || q.error FROM scorebeat.quarantine q"
            " JOIN scorebeat.batches z ON z.id = q.batch_id WHERE z.run_id = :id LIMIT 1)), 500) AS error"
            " FROM scorebeat.batches WHERE run_id = :id"
        ),
        {"id": run_id},
    ).one()
    return Tally(**row._mapping)


def settle(connection: Connection, run_id: int, found: Tally) -> RunState:
    """Close a run that is done: succeeded, partial, or failed when not a row was scored."""
    state = RunState.PARTIAL
    if found.dead + found.failed == 0:
        state = RunState.SUCCEEDED
    elif found.scored + found.failed == 0:
        state = RunState.FAILED
    reason = f"{found.dead} of {found.batches} batches are dead, the first by: {found.error}" if found.dead else None
    connection.execute(
        text(
            "UPDATE scorebeat.runs SET finished_at = clock_timestamp(), state = :state,"
            " reason = coalesce(:reason, reason) WHERE id = :id AND state = 'running'"
        ),
        {"id": run_id, "state": state, "reason": reason},
    )
    return state


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
