"""Times of a job's batches of late, from which `producer.costs` learns what a batch and a row cost."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, text

from scorebeat.db.records.usage import HARDWARE

RUNS = 20
"""The newest ended runs of the job's newest version that are read."""
BATCHES = 2_000
"""The newest batches of them."""


@dataclass(frozen=True)
class BatchTime:
    """A batch that its first attempt committed whole, without a bad row."""

    rows: int
    seconds: float
    """From the claim to the commit."""
    fetch: float
    predict: float
    commit: float


@dataclass(frozen=True)
class RunTime:
    """A run that ended and scored rows."""

    run: int
    rows: int
    batches: int
    processes: int
    """That had batches of it."""
    took: timedelta
    """From the request to the end."""
    scoring: timedelta
    """From the first claim to the last commit."""
    busy_seconds: float
    """That the processes had batches, added up, in the attempts that ended them."""


_NEWEST = (
    "newest AS (SELECT r.id, r.created_at, r.finished_at FROM scorebeat.runs r JOIN (SELECT model, model_version"
    " FROM scorebeat.runs WHERE job = :job AND state IN ('succeeded', 'partial') ORDER BY id DESC LIMIT 1) v"
    " ON v.model = r.model AND v.model_version = r.model_version WHERE r.job = :job"
    " AND r.state IN ('succeeded', 'partial') AND EXISTS (SELECT FROM scorebeat.batches b WHERE b.run_id = r.id)"
    f" ORDER BY r.id DESC LIMIT {RUNS})"
)


def batch_times(connection: Connection, job: str) -> tuple[str | None, list[BatchTime]]:
    """The device on which the job was scored last, and the times of its batches there; None if there are none."""
    rows = connection.execute(
        text(
            f"WITH {_NEWEST}, done AS (SELECT b.id, b.rows_scored AS rows, b.fetch_seconds AS fetch,"
            " b.predict_seconds AS predict, b.commit_seconds AS commit,"
            " extract(epoch FROM b.finished_at - b.claimed_at)::float8 AS seconds,"
            f" {HARDWARE} AS device"
            " FROM newest n JOIN scorebeat.batches b ON b.run_id = n.id WHERE b.state = 'committed' AND b.attempt = 1"
            " AND b.care = 0 AND b.rows_failed = 0 AND b.rows_scored > 0 AND b.fetch_seconds IS NOT NULL)"
            " SELECT * FROM done WHERE device = (SELECT device FROM done ORDER BY id DESC LIMIT 1)"
            f" AND seconds >= 0 ORDER BY id DESC LIMIT {BATCHES}"
        ),
        {"job": job},
    ).all()
    times = [BatchTime(row.rows, row.seconds, row.fetch, row.predict, row.commit) for row in rows]
    return rows[0].device if rows else None, times


def run_times(connection: Connection, job: str) -> list[RunTime]:
    """The newest runs of the job that scored rows, the newest first."""
    rows = connection.execute(
        text(
            f"WITH {_NEWEST} SELECT n.id, sum(b.rows_scored)::bigint AS rows, count(*) AS batches,"
            " count(DISTINCT (b.claimed_by, b.claimed_pid)) AS processes, n.finished_at - n.created_at AS took,"
            " max(b.finished_at) - min(b.claimed_at) AS scoring,"
            " sum(extract(epoch FROM b.finished_at - b.claimed_at))::float8 AS busy"
            " FROM newest n JOIN scorebeat.batches b ON b.run_id = n.id AND b.state = 'committed'"
            " AND b.claimed_at <= b.finished_at GROUP BY n.id, n.created_at, n.finished_at"
            " HAVING sum(b.rows_scored) > 0 ORDER BY n.id DESC"
        ),
        {"job": job},
    )
    return [RunTime(row.id, row.rows, row.batches, row.processes, row.took, row.scoring, row.busy) for row in rows]
