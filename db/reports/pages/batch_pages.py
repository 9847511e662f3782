"""Data of pages about single batches, quarantined rows, and recorded actions."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from scorebeat.core.errors import UnknownName


def batch(connection: Connection, batch_id: int) -> dict[str, Any]:
    """One batch with its run and job, its first and last key or their list. Raises UnknownName."""
    found = connection.execute(
        text(
            "SELECT b.id, b.run_id, r.job, r.state AS run_state, r.spec ->> 'on_failure' AS on_failure,"
            " b.number, b.state, b.queue, b.rows_planned,"
            " b.rows_scored, b.rows_failed, b.first_key, b.last_key, b.keys, b.attempt, b.attempts_left, b.claimed_by,"
            " w.device, b.claimed_at, b.finished_at, b.next_attempt_at, b.error"
            " FROM scorebeat.batches b JOIN scorebeat.runs r ON r.id = b.run_id"
            " LEFT JOIN scorebeat.workers w ON w.name = b.claimed_by WHERE b.id = :id"
        ),
        {"id": batch_id},
    ).one_or_none()
    if found is None:
        raise UnknownName(f"there is no batch {batch_id}; it may have been pruned")
    return dict(found._mapping)


def labels(connection: Connection, batch_ids: Sequence[int]) -> dict[int, str]:
    """A description of each batch, such as `batch 17 of run 3, job iris, 500 rows`; unknown batches are left out."""
    found = connection.execute(
        text(
            "SELECT b.id, b.run_id, r.job, b.rows_planned FROM scorebeat.batches b"
            " JOIN scorebeat.runs r ON r.id = b.run_id WHERE b.id = ANY (:ids)"
        ),
        {"ids": list(batch_ids)},
    )
    return {row.id: f"batch {row.id} of run {row.run_id}, job {row.job}, {row.rows_planned:,} rows" for row in found}


def quarantined_rows(
    connection: Connection,
    run_id: int,
    *,
    batch_id: int | None = None,
    after: tuple[int, int] = (0, 0),
    limit: int = 50,
) -> list[dict[str, Any]]:
    """Quarantined rows of the run, or of one batch of it, in the order of the plan.

    They begin after `after`, the `number` of a batch and the `id` of a row in it.
    """
    found = connection.execute(
        text(
            "SELECT z.id, b.number, z.batch_id, z.key, z.error_type, z.error, z.quarantined_at"
            " FROM scorebeat.batches b JOIN scorebeat.quarantine z ON z.batch_id = b.id WHERE b.run_id = :run_id"
            " AND b.number >= :number AND (b.number, z.id) > (:number, :id)"
            " AND (CAST(:batch_id AS bigint) IS NULL OR b.id = :batch_id) ORDER BY b.number, z.id LIMIT :limit"
        ),
        {"run_id": run_id, "batch_id": batch_id, "number": after[0], "id": after[1], "limit": limit},
    )
    return [dict(row._mapping) for row in found]


def actions(connection: Connection, subject: str, limit: int = 10) -> list[dict[str, Any]]:
    """Recorded actions on the subject, such as `run 17`, with who and when; the newest first."""
    found = connection.execute(
        text(
            "SELECT a.at, a.by, a.action, a.details FROM scorebeat.actions a WHERE a.subject = :subject"
            " ORDER BY a.id DESC LIMIT :limit"
        ),
        {"subject": subject, "limit": limit},
    )
    return [dict(row._mapping) for row in found]
