"""Runs of a job by their due times."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from scorebeat.core.jobs.job import Job
from scorebeat.core.states import FINAL_RUN, RunState
from scorebeat.db.ledger.model_versions import Version
from scorebeat.db.reports.pages.job_lines import COMPLETE


@dataclass(frozen=True)
class RunOfDueTime:
    """A run for a due time, by a tick or by hand."""

    due_at: datetime
    id: int
    state: RunState
    is_complete: bool
    """It left out only rows that it quarantined, and the job had the same query and parameters as now."""
    has_rows: bool

    @property
    def is_open(self) -> bool:
        return self.state not in FINAL_RUN


def runs_between(
    connection: Connection, job: Job, version: Version, first: datetime, before: datetime
) -> list[RunOfDueTime]:
    """Runs of this version over all rows of a due time, from `first` on and before `before`, oldest run first."""
    rows = connection.execute(
        text(
            f"SELECT r.due_at, r.id, r.state, {COMPLETE} AND r.spec ->> 'query' = :query"
            " AND coalesce(r.spec -> 'parameters', '{}') = :parameters AS is_complete,"
            " EXISTS (SELECT FROM scorebeat.batches b WHERE b.run_id = r.id)"
            " OR EXISTS (SELECT FROM scorebeat.pruned_batches p WHERE p.run_id = r.id) AS has_rows"
            " FROM scorebeat.runs r WHERE r.job = :job AND r.model = :model AND r.model_version = :version"
            " AND r.due_at >= :first AND r.due_at < :before"
            " AND num_nonnulls(r.row_limit, r.row_filter, r.row_keys) = 0 ORDER BY r.id"
        ).bindparams(bindparam("parameters", type_=JSONB)),
        {
            "job": job.name,
            "model": version.name,
            "version": version.version,
            "query": job.query,
            "parameters": job.model_dump(mode="json").get("parameters", {}),
            "first": first,
            "before": before,
        },
    )
    return [RunOfDueTime(r.due_at, r.id, RunState(r.state), r.is_complete, r.has_rows) for r in rows]


def skipped_since(connection: Connection, job: str, since: datetime) -> list[datetime]:
    """Due times whose tick was skipped after `since`."""
    rows = connection.execute(
        text(
            "SELECT DISTINCT CAST(details ->> 'due_at' AS timestamptz) AS due_at FROM scorebeat.actions"
            " WHERE subject = 'job ' || :job AND action = 'tick.skipped' AND at >= :since ORDER BY 1"
        ),
        {"job": job, "since": since},
    )
    return list(rows.scalars())
