"""Data of pages about runs, their speed and batches. SQL pages them by the last row of the page before."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, text

from scorebeat.core.states import BatchState, RunState
from scorebeat.db.connect import read_only
from scorebeat.db.reports import status
from scorebeat.db.reports.status import RunLine

PATIENCE = "10s"
"""A statement that takes longer is cancelled: a page or a scrape must not wait for it."""
RECENT = timedelta(seconds=60)
"""The time over which the present speed is measured."""


@dataclass(frozen=True)
class Point:
    """The speed in one interval of a run."""

    at: datetime
    """The beginning of the interval."""
    rows_a_second: float


def reading(engine: Engine) -> AbstractContextManager[Connection]:
    """The snapshot in which a page or a scrape reads the ledger, and no query of a user."""
    return read_only.snapshot(engine, PATIENCE)


def runs(
    connection: Connection,
    *,
    job: str | None = None,
    states: Sequence[RunState] = (),
    before: int | None = None,
    limit: int = 50,
    with_idle: bool = True,
) -> list[RunLine]:
    """Runs below the id `before`, newest first; by default of all jobs and in all states.

    Idle runs are those of `status.IS_IDLE`.
    """
    return status.matching(
        connection,
        " WHERE (CAST(:job AS text) IS NULL OR r.job = :job)"
        " AND (CAST(:states AS text[]) IS NULL OR r.state = ANY (CAST(:states AS text[])))"
        f" AND (:with_idle OR NOT {status.IS_IDLE})"
        " AND (CAST(:before AS bigint) IS NULL OR r.id < :before) ORDER BY r.id DESC LIMIT :limit",
        {
            "job": job,
            "states": [s.value for s in states] or None,
            "with_idle": with_idle,
            "before": before,
            "limit": limit,
        },
    )


def pace(connection: Connection, line: RunLine) -> float:
    """Rows a second of an open run over the last minute, or since it began if that is shorter; 0 of a closed one."""
    if line.is_final:
        return 0.0
    rows, seconds = connection.execute(
        text(
            "SELECT coalesce(sum(b.rows_scored + b.rows_failed), 0),"
            " extract(epoch FROM least(:recent, clock_timestamp() - r.created_at))::float8"
            " FROM scorebeat.runs r LEFT JOIN scorebeat.batches b ON b.run_id = r.id"
            " AND b.finished_at > clock_timestamp() - :recent WHERE r.id = :id GROUP BY r.id"
        ),
        {"id": line.id, "recent": RECENT},
    ).one()
    return float(int(rows) / max(seconds, 1.0))


def throughput(connection: Connection, run_id: int, points: int = 60) -> list[Point]:
    """The run's speed from its request to its last commit (or now), in `points` intervals of equal length."""
    found = connection.execute(
        text(
            "WITH span AS (SELECT created_at AS low, greatest(coalesce(finished_at, clock_timestamp()),"
            " created_at + interval '1 second') AS high FROM scorebeat.runs WHERE id = :id),"
            " done AS (SELECT least(width_bucket(extract(epoch FROM b.finished_at)::float8,"
            " extract(epoch FROM low)::float8, extract(epoch FROM high)::float8, :points), :points) AS part,"
            " sum(b.rows_scored + b.rows_failed) AS rows FROM scorebeat.batches b CROSS JOIN span"
            " WHERE b.run_id = :id AND b.finished_at IS NOT NULL GROUP BY 1)"
            " SELECT low + (part - 1) * (high - low) / :points AS at,"
            " (coalesce(rows, 0) / (extract(epoch FROM high - low) / :points))::float8 AS rows_a_second"
            " FROM span CROSS JOIN generate_series(1, :points) AS part LEFT JOIN done USING (part) ORDER BY part"
        ),
        {"id": run_id, "points": points},
    )
    return [Point(row.at, row.rows_a_second) for row in found]


def batches(
    connection: Connection,
    run_id: int,
    *,
    states: Sequence[BatchState] = (),
    after: int = 0,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """Batches of the run above the number `after`, in these states or all, in the order of their numbers."""
    return _batches(
        connection,
        "b.number > :after AND (CAST(:states AS text[]) IS NULL OR b.state = ANY (CAST(:states AS text[])))"
        " ORDER BY b.number LIMIT :limit",
        {"run_id": run_id, "states": [s.value for s in states] or None, "after": after, "limit": limit},
    )


def slowest(connection: Connection, run_id: int, limit: int = 10) -> list[dict[str, Any]]:
    """The batches that took longest from claim to commit, in their last attempt."""
    return _batches(
        connection,
        "b.finished_at IS NOT NULL AND b.claimed_at IS NOT NULL"
        " ORDER BY b.finished_at - b.claimed_at DESC, b.id LIMIT :limit",
        {"run_id": run_id, "limit": limit},
    )


_FAILED = "(b.error IS NOT NULL AND b.state IN ('dead', 'pending', 'claimed') OR b.rows_failed > 0)"


def failed(connection: Connection, run_id: int, limit: int = 10) -> list[dict[str, Any]]:
    """Batches that are dead, wait again after an error, or have quarantined rows; the dead first, then the newest."""
    return _batches(
        connection,
        f"{_FAILED} ORDER BY b.state = 'dead' DESC, coalesce(b.finished_at, b.claimed_at) DESC, b.id LIMIT :limit",
        {"run_id": run_id, "limit": limit},
    )


def failed_by_number(connection: Connection, run_id: int, *, after: int = 0, limit: int = 50) -> list[dict[str, Any]]:
    """The same batches, but in the order of their numbers, above the number `after`."""
    return _batches(
        connection,
        f"b.number > :after AND {_FAILED} ORDER BY b.number LIMIT :limit",
        {"run_id": run_id, "after": after, "limit": limit},
    )


def _batches(connection: Connection, ending: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    found = connection.execute(
        text(
            "SELECT b.id, b.number, b.queue, b.state, b.rows_planned, b.rows_scored, b.rows_failed, b.attempt,"
            " b.attempts_left, b.claimed_by,"
            " (SELECT w.device FROM scorebeat.workers w WHERE w.name = b.claimed_by) AS device,"
            " b.claimed_at, b.finished_at, b.next_attempt_at, b.error,"
            " b.fetch_seconds, b.predict_seconds, b.commit_seconds,"
            " extract(epoch FROM b.finished_at - b.claimed_at)::float8 AS seconds"
            f" FROM scorebeat.batches b WHERE b.run_id = :run_id AND {ending}"
        ),
        values,
    )
    return [dict(row._mapping) for row in found]
