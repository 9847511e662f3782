"""Rows that a closed run quarantined and that no requeue puts back: they are pending, for the job's next run.

These are the rows of a run that was cancelled, which is never opened again, and of a failed run that is shown whole or
not at all, of which nothing else was kept. Until then they stay in quarantine, so that they say why.
"""

from sqlalchemy import Connection, text

_PUT_ASIDE = (
    "FROM scorebeat.batches b JOIN scorebeat.runs r ON r.id = b.run_id WHERE b.id = z.batch_id"
    " AND (r.state = 'cancelled' OR (r.state = 'failed' AND r.spec ->> 'on_failure' = 'retry-run'))"
)
"""Of a row `z` in quarantine."""


def free(connection: Connection, set_id: int) -> None:
    """The rows leave quarantine, for the run that begins now.

    In the transaction in which the run begins, or else it would take them for settled, and be shown without them.
    """
    connection.execute(
        text(f"DELETE FROM scorebeat.quarantine z WHERE z.prediction_set_id = :id AND EXISTS (SELECT 1 {_PUT_ASIDE})"),
        {"id": set_id},
    )


def with_rows(connection: Connection, set_id: int) -> tuple[int, ...]:
    """The runs that have such rows in the set's quarantine."""
    found = connection.execute(
        text(
            "SELECT DISTINCT f.run_id FROM scorebeat.quarantine z CROSS JOIN LATERAL"
            f" (SELECT b.run_id {_PUT_ASIDE}) f WHERE z.prediction_set_id = :id ORDER BY f.run_id"
        ),
        {"id": set_id},
    )
    return tuple(found.scalars())
