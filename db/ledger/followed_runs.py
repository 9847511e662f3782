"""Runs that ended of jobs with `deleted = "follow"`: whether predictions without a source row were looked for since."""

from sqlalchemy import Connection, text


def due(connection: Connection) -> list[int]:
    """Runs that ended last, each of its job, after which nobody has looked yet."""
    rows = connection.execute(
        text(
            "SELECT r.id FROM scorebeat.jobs j CROSS JOIN LATERAL (SELECT id, state, followed_at FROM scorebeat.runs"
            " WHERE job = j.name ORDER BY id DESC LIMIT 1) r WHERE j.spec ->> 'deleted' = 'follow'"
            " AND j.removed_at IS NULL AND r.state IN ('succeeded', 'partial') AND r.followed_at IS NULL ORDER BY r.id"
        )
    )
    return list(rows.scalars())


def take(connection: Connection, run_id: int) -> bool:
    """Mark the run; False if another process has marked it."""
    return (
        connection.execute(
            text("UPDATE scorebeat.runs SET followed_at = now() WHERE id = :id AND followed_at IS NULL"),
            {"id": run_id},
        ).rowcount
        == 1
    )


def record(connection: Connection, run_id: int, removed: int) -> None:
    """How many predictions were deleted after the run."""
    connection.execute(
        text("UPDATE scorebeat.runs SET rows_removed = :removed WHERE id = :id"), {"id": run_id, "removed": removed}
    )


def removed(connection: Connection, run_id: int) -> int | None:
    """How many predictions were deleted after the run; None if nobody has looked, or they were left alone."""
    query = text("SELECT rows_removed FROM scorebeat.runs WHERE id = :id")
    count: int | None = connection.execute(query, {"id": run_id}).scalar_one()
    return count
