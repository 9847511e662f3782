"""Status for operators: runs with their counts, batches, failures. Nothing here changes anything."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from scorebeat.core.errors import UnknownName
from scorebeat.core.states import FINAL_RUN, RunState
from scorebeat.db.connect.locks import WAITS
from scorebeat.db.ledger.evidence.profiles import IS_NOT_COMPARED
from scorebeat.db.ledger.failures import failure_groups
from scorebeat.db.ledger.runs import IS_TICK
from scorebeat.db.predictions.generation_keys import IS_MISSING


@dataclass(frozen=True)
class RunLine:
    """A run with the sums over its batches."""

    id: int
    job: str
    model: str
    model_version: int
    state: RunState
    rows_planned: int
    """It grows while the run is planned."""
    rows_scored: int
    rows_failed: int
    batches: int
    batches_open: int
    batches_dead: int
    created_at: datetime
    created_by: str
    due_at: datetime | None
    deadline_at: datetime | None
    planned_at: datetime | None
    finished_at: datetime | None
    reason: str | None
    queue: str
    on_failure: str = "retry-rows"

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_RUN

    @property
    def seconds(self) -> float | None:
        """From the request to the last commit; None while it is open."""
        return (self.finished_at - self.created_at).total_seconds() if self.finished_at else None

    @property
    def speed(self) -> float | None:
        """Rows a second over the whole run."""
        return self.rows_scored / self.seconds if self.seconds and self.rows_scored else None


_KEY = (
    "(SELECT 'all its rows are scored; before they are shown, the primary key of predictions.' || s.table_name"
    " || coalesce(' has to be built, which is tried again soon: ' || r.key_error, ' is being built')"
    " FROM scorebeat.prediction_sets s"
    f" WHERE s.id = r.prediction_set_id AND {IS_MISSING} AND r.state = 'running' AND b.batches_open = 0)"
)
"""SQL: what run r waits for if its generation only lacks its key; else NULL."""
_MISSED = (
    # a reason of a partial run would mean that it left out more than quarantined rows
    "CASE WHEN r.rows_missed > 0 AND r.state <> 'partial' THEN format('%s rows had been missed since every key was last"
    " compared: their cursor was set to an earlier time or number than it had, or their predictions were deleted',"
    " r.rows_missed) END"
)
_NOT_COMPARED = (
    "(SELECT 'it was not compared: ' || coalesce(p.failure, p.why_not) FROM scorebeat.run_profiles p"
    f" WHERE p.run_id = r.id AND {IS_NOT_COMPARED} AND r.state = 'succeeded')"
)
"""SQL: why nothing vouches for run r, which readers see; else NULL."""
_RUNS = (
    "SELECT r.id, r.job, r.model, r.model_version, r.state, b.rows_planned, b.rows_scored, b.rows_failed,"
    " b.batches, b.batches_open, b.batches_dead, r.created_at, r.created_by, r.due_at, r.deadline_at, r.planned_at,"
    f" r.finished_at, coalesce({_KEY}, r.reason, b.waits, {_MISSED}, {_NOT_COMPARED}) AS reason,"
    " r.spec ->> 'queue' AS queue,"
    " r.spec ->> 'on_failure' AS on_failure FROM scorebeat.runs r"
    " LEFT JOIN scorebeat.pruned_batches p ON p.run_id = r.id CROSS JOIN LATERAL"
    " (SELECT coalesce(sum(rows_planned), 0) + coalesce(p.rows_planned, 0) AS rows_planned,"
    " coalesce(sum(rows_scored), 0) + coalesce(p.rows_scored, 0) AS rows_scored,"
    " coalesce(sum(rows_failed), 0) + coalesce(p.rows_failed, 0) AS rows_failed,"
    " count(*) + coalesce(p.batches, 0) AS batches,"
    " count(*) FILTER (WHERE state IN ('pending', 'claimed')) AS batches_open,"
    " count(*) FILTER (WHERE state = 'dead') + coalesce(p.batches_dead, 0) AS batches_dead,"
    f" max(error) FILTER (WHERE starts_with(error, '{WAITS}') AND (state = 'pending'"
    " OR (state = 'claimed' AND claimed_at > clock_timestamp() - interval '3 s'))) AS waits"
    " FROM scorebeat.batches WHERE run_id = r.id) b"
)

IS_IDLE = (
    f"({IS_TICK} AND r.state = 'succeeded' AND b.batches = 0 AND coalesce(r.finished_at <= r.deadline_at, true)"
    " AND NOT EXISTS (SELECT FROM scorebeat.notices n WHERE n.run_id = r.id AND n.event = 'late'"
    " AND n.kind IS NULL)"
    " AND NOT EXISTS (SELECT FROM scorebeat.runs f WHERE f.job = r.job AND f.due_at = r.due_at AND f.state = 'failed'))"
)
"""SQL condition: a tick that found nothing to score, was not late, and did not replace a failed one."""


def newest(connection: Connection, limit: int, job: str | None = None, *, with_idle: bool = True) -> list[RunLine]:
    """Runs of one job or of all, the newest first; idle runs are those of `IS_IDLE`."""
    return matching(
        connection,
        " WHERE (CAST(:job AS text) IS NULL OR r.job = :job)"
        f" AND (:with_idle OR NOT {IS_IDLE})"
        " ORDER BY r.id DESC LIMIT :limit",
        {"job": job, "limit": limit, "with_idle": with_idle},
    )


def after(connection: Connection, run_id: int) -> list[RunLine]:
    """Runs that are open, or were made after the run of that id; the oldest first."""
    return matching(connection, " WHERE r.state IN ('planning', 'running') OR r.id > :id ORDER BY r.id", {"id": run_id})


def get(connection: Connection, run_id: int) -> RunLine:
    """One run. Raises UnknownName."""
    found = matching(connection, " WHERE r.id = :id", {"id": run_id})
    if not found:
        raise UnknownName(f"there is no run {run_id}; `scorebeat runs` lists them")
    return found[0]


def newest_id(connection: Connection) -> int:
    """Id of the newest run; 0 if there is none."""
    return int(connection.execute(text("SELECT coalesce(max(id), 0) FROM scorebeat.runs")).scalar_one())


def batches(connection: Connection, run_id: int, batch_id: int | None = None) -> list[dict[str, Any]]:
    """The batches of a run, or one of them, by number; keys are lists of texts, durations are in seconds."""
    found = connection.execute(
        text(
            "SELECT id, number, queue, state, rows_planned, rows_scored, rows_failed, first_key, last_key,"
            " keys IS NOT NULL AS is_list, attempt, attempts_left, claimed_by, device, claimed_at, finished_at, error,"
            " fetch_seconds, predict_seconds, commit_seconds FROM scorebeat.batches"
            " WHERE run_id = :run_id AND (CAST(:batch_id AS bigint) IS NULL OR id = :batch_id) ORDER BY number"
        ),
        {"run_id": run_id, "batch_id": batch_id},
    )
    return [dict(row._mapping) for row in found]


def batch_states(connection: Connection, run_id: int) -> list[dict[str, Any]]:
    """Batches, rows and seconds of the run in each state."""
    found = connection.execute(
        text(
            "SELECT state, count(*) AS batches, sum(rows_planned) AS rows_planned, sum(rows_scored) AS rows_scored,"
            " sum(rows_failed) AS rows_failed, max(attempt) AS attempts, round(sum(fetch_seconds)::numeric, 2)::float8"
            " AS fetch_seconds, round(sum(predict_seconds)::numeric, 2)::float8 AS predict_seconds,"
            " round(sum(commit_seconds)::numeric, 2)::float8 AS commit_seconds"
            " FROM scorebeat.batches WHERE run_id = :run_id GROUP BY state ORDER BY state"
        ),
        {"run_id": run_id},
    )
    return [dict(row._mapping) for row in found]


def last_error(connection: Connection, run_id: int) -> dict[str, Any] | None:
    """Of the batches that wait for another attempt after an error: the one tried last, and their number."""
    found = connection.execute(
        text(
            "SELECT id, attempt, error, count(*) OVER () AS batches FROM scorebeat.batches"
            " WHERE run_id = :run_id AND state IN ('pending', 'claimed') AND error IS NOT NULL"
            " ORDER BY claimed_at DESC NULLS LAST, id DESC LIMIT 1"
        ),
        {"run_id": run_id},
    ).one_or_none()
    return dict(found._mapping) if found is not None else None


def failures(connection: Connection, run_id: int | None = None) -> list[dict[str, Any]]:
    """Dead batches and quarantined rows of a run or of all, a row for each run and error, most frequent first.

    Runs that failed or left rows out without any of these are included. The count is of batches, rows or runs; the
    example is a batch, a key or a job.
    """
    found = connection.execute(
        text(
            "SELECT 'dead batches' AS kind, run_id AS run, count(*) AS count, sum(rows_planned) AS rows,"
            " min(error) AS error, 'batch ' || min(id) AS example FROM scorebeat.batches"
            " WHERE state = 'dead' AND (CAST(:run_id AS bigint) IS NULL OR run_id = :run_id)"
            f" GROUP BY run_id, {failure_groups.beginning('error')}"
            " UNION ALL SELECT 'quarantined rows', b.run_id, count(*), count(*),"
            " min(z.error_type || ': ' || z.error), 'key ' || min(z.key::text)"
            " FROM scorebeat.quarantine z JOIN scorebeat.batches b ON b.id = z.batch_id"
            " WHERE CAST(:run_id AS bigint) IS NULL OR b.run_id = :run_id"
            f" GROUP BY b.run_id, z.error_type, {failure_groups.beginning('z.error')}"
            " UNION ALL SELECT r.state || ' run', r.id, 1, 0, r.reason, 'job ' || r.job FROM scorebeat.runs r"
            " WHERE (r.state = 'failed' OR (r.state = 'partial' AND r.reason IS NOT NULL))"
            " AND (CAST(:run_id AS bigint) IS NULL OR r.id = :run_id) AND NOT EXISTS (SELECT FROM scorebeat.batches b"
            " WHERE b.run_id = r.id AND (b.state = 'dead' OR b.rows_failed > 0))"
            " ORDER BY run DESC, count DESC"
        ),
        {"run_id": run_id},
    )
    return [dict(row._mapping) for row in found]


def rows_scored_by(connection: Connection) -> dict[tuple[str, int], int]:
    """Rows that each model version scored, over all runs."""
    found = connection.execute(
        text(
            "SELECT r.model, r.model_version, sum(s.rows_scored) FROM scorebeat.runs r"
            " JOIN (SELECT run_id, rows_scored FROM scorebeat.batches UNION ALL"
            " SELECT run_id, rows_scored FROM scorebeat.pruned_batches) s ON s.run_id = r.id"
            " GROUP BY r.model, r.model_version"
        )
    )
    return {(row[0], row[1]): int(row[2]) for row in found}


def server_version(connection: Connection) -> str:
    return str(connection.execute(text("SHOW server_version")).scalar_one())


def matching(connection: Connection, ending: str, values: dict[str, Any]) -> list[RunLine]:
    """Runs selected by the ending of the statement; in it `r` is the run and `b` has the sums over its batches."""
    found = connection.execute(text(_RUNS + ending), values)
    lines = []
    for row in found:
        line = dict(row._mapping) | {"state": RunState(row.state)}
        for name in ("rows_planned", "rows_scored", "rows_failed"):
            line[name] = int(line[name])  # PostgreSQL returns a sum as numeric
        lines.append(RunLine(**line))
    return lines
