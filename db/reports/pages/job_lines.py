"""Jobs as people list them: when each is due next, how its last run ended, and why a due time was last skipped."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.db.connect import database_clock
from scorebeat.db.ledger import jobs
from scorebeat.db.ledger.runs import BEAT, IS_TICK

COMPLETE = "(state = 'succeeded' OR (state = 'partial' AND reason IS NULL))"
"""SQL condition: the run left out only rows that it quarantined."""


def is_complete(state: RunState, reason: str | None) -> bool:
    """`COMPLETE` in Python."""
    return state is RunState.SUCCEEDED or (state is RunState.PARTIAL and reason is None)


@dataclass(frozen=True)
class JobLine:
    """A job of jobs.toml with its latest runs and its next due time."""

    job: Job
    model_version: int | None
    """The version of the model that the next run uses; None if there is none."""
    next_due_at: datetime | None
    """None if it runs only by hand."""
    needed_by: datetime | None
    """When the results of the first due time since the last success are, or were, needed."""
    is_overdue: bool
    """Whether that time has passed."""
    last_success_at: datetime | None
    """When the last run ended that left out only rows that it quarantined."""
    open_run: int | None
    """The newest run that is planned or scored now."""
    last_run: int | None
    """The newest run that ended."""
    last_state: RunState | None
    last_end_at: datetime | None
    last_reason: str | None
    held_run: int | None
    """The newest run that the job's gate holds: it waits for a person."""
    held_reason: str | None
    last_skip_at: datetime | None
    """The newest due time for which no run was opened, without an error: paused, busy or missed."""
    last_skip_reason: str | None
    paused_at: datetime | None
    paused_by: str | None
    paused_reason: str | None

    @property
    def name(self) -> str:
        return self.job.name

    @property
    def schedule(self) -> str | None:
        return self.job.schedule

    @property
    def timezone(self) -> str:
        return self.job.timezone

    @property
    def queue(self) -> str:
        return self.job.queue

    @property
    def model(self) -> str:
        return self.job.model_name

    @property
    def held_note(self) -> str | None:
        """The message that a run of the job waits for a person; None if none does."""
        return None if self.held_run is None else f"run {self.held_run} of job {self.name} is {self.held_reason}"


IS_BY_HAND = f"r.due_at IS NOT NULL AND r.created_by <> '{BEAT}'"
"""SQL condition: run r was made by hand for a due time; in the words of the index of such runs."""
_LINES = text(
    "SELECT j.name, j.applied_at, (SELECT version FROM scorebeat.model_versions WHERE published_at IS NOT NULL"
    " AND retired_at IS NULL AND name = split_part(j.spec ->> 'model', '/', 1)) AS published,"
    " greatest(s.finished_at, f.finished_at) AS last_success_at, s.finished_at AS complete_until,"
    " f.due_at AS filled_until, o.id AS open_run, e.id AS last_run, e.state AS last_state,"
    " e.finished_at AS last_end_at, e.reason AS last_reason, h.id AS held_run, h.reason AS held_reason,"
    " CAST(k.details ->> 'due_at' AS timestamptz) AS last_skip_at, k.details ->> 'reason' AS last_skip_reason"
    " FROM scorebeat.jobs j"
    f" LEFT JOIN LATERAL (SELECT r.finished_at FROM scorebeat.runs r WHERE r.job = j.name AND {COMPLETE}"
    f" AND (r.due_at IS NULL OR {IS_TICK}) ORDER BY r.id DESC LIMIT 1) s ON true"
    # made by hand for a due time: it proves nothing about later ones
    f" LEFT JOIN LATERAL (SELECT max(r.due_at) AS due_at, max(r.finished_at) AS finished_at FROM scorebeat.runs r"
    f" WHERE r.job = j.name AND {COMPLETE} AND {IS_BY_HAND}) f ON true"
    " LEFT JOIN LATERAL (SELECT max(id) AS id FROM scorebeat.runs WHERE job = j.name"
    " AND state IN ('planning', 'running')) o ON true"
    " LEFT JOIN LATERAL (SELECT id, state, finished_at, reason FROM scorebeat.runs WHERE job = j.name"
    " AND finished_at IS NOT NULL ORDER BY id DESC LIMIT 1) e ON true"
    " LEFT JOIN LATERAL (SELECT id, reason FROM scorebeat.runs WHERE job = j.name AND state = 'held'"
    " ORDER BY id DESC LIMIT 1) h ON true"
    " LEFT JOIN LATERAL (SELECT details FROM scorebeat.actions WHERE subject = 'job ' || j.name"
    " AND action IN ('tick.skipped', 'tick.missed') ORDER BY id DESC LIMIT 1) k ON true"
    " WHERE j.removed_at IS NULL"
)


def listing(connection: Connection) -> list[JobLine]:
    """All jobs of jobs.toml, in the order of their names."""
    now = database_clock.now(connection)
    known = {row.name: row for row in connection.execute(_LINES)}
    lines = []
    for row in jobs.listing(connection):
        job, values = row.job, dict(known[row.job.name]._mapping)
        del values["name"]
        published = values.pop("published")
        since = max(filter(None, (values.pop("applied_at"), values.pop("complete_until"), values.pop("filled_until"))))
        needed_by = needed_first(job, since)
        state = values.pop("last_state")
        lines.append(
            JobLine(
                job=job,
                model_version=job.pinned_version or published,
                next_due_at=job.due.next_due(now) if job.due is not None else None,
                needed_by=needed_by,
                is_overdue=needed_by is not None and needed_by < now,
                last_state=RunState(state) if state else None,
                paused_at=row.paused_at,
                paused_by=row.paused_by,
                paused_reason=row.paused_reason,
                **values,
            )
        )
    return lines


def needed_first(job: Job, since: datetime) -> datetime | None:
    """When the results of the first due time after `since` are needed; None for a job without a schedule.

    `since` is the last success, or when the job was changed, if that is later.
    """
    return job.needed_by(job.due.next_due(since)) if job.due is not None else None
