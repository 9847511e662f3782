"""Rows that a closed run quarantined and that no requeue puts back: the job's next run scores them.

These are the rows of a cancelled run, which is never opened again, and of a failed run that is shown whole or not at
all, whose predictions were deleted. Until the next run they stay in quarantine, with their errors.
"""

from sqlalchemy import Connection, text

_FROM_CLOSED = (
    "FROM scorebeat.batches b JOIN scorebeat.runs r ON r.id = b.run_id WHERE b.id = z.batch_id"
    " AND (r.state = 'cancelled' OR (r.state = 'failed' AND r.spec ->> 'on_failure' = 'retry-run'))"
)
"""FROM and WHERE for a row `z` in quarantine."""


def free(connection: Connection, set_id: int) -> None:
    """Remove the rows from quarantine, for the run that begins now.

    It must be the transaction in which the run begins: else the run would skip them, and be shown without them.
    """
    connection.execute(
        text(
            f"DELETE FROM scorebeat.quarantine z WHERE z.prediction_set_id = :id AND EXISTS (SELECT 1 {_FROM_CLOSED})"
        ),
        {"id": set_id},
    )


def with_rows(connection: Connection, set_id: int) -> tuple[int, ...]:
    """Ids of the runs that have such rows in the set's quarantine."""
    found = connection.execute(
        text(
            "SELECT DISTINCT f.run_id FROM scorebeat.quarantine z CROSS JOIN LATERAL"
            f" (SELECT b.run_id {_FROM_CLOSED}) f WHERE z.prediction_set_id = :id ORDER BY f.run_id"
        ),
        {"id": set_id},
    )
    return tuple(found.scalars())
