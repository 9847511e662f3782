"""Backfill: the due times of a job's schedule in a span of time, and the run of each."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from scorebeat.core.errors import RunOpen, UsageError
from scorebeat.core.jobs.job import Job
from scorebeat.core.jobs.parameters import DUE_AT
from scorebeat.db.connect import database_clock
from scorebeat.db.connect.engine import reachable
from scorebeat.db.ledger import jobs, model_versions, runs
from scorebeat.db.ledger.model_versions import Version
from scorebeat.db.reports.forecasts import due_times
from scorebeat.db.reports.forecasts.due_times import RunOfDueTime
from scorebeat.db.source.values import parameter_values
from scorebeat.producer.context import Producer
from scorebeat.producer.requests.enqueue import Request, enqueue

MOST = 10_000
"""The largest number of due times in one backfill."""


@dataclass(frozen=True)
class Backfill:
    """A request for due times, of a job and a version."""

    job: str
    version: int | None
    """None: the version that the job follows."""
    first: datetime
    before: datetime


@dataclass(frozen=True)
class DueTime:
    """A due time with its run."""

    due_at: datetime
    run: RunOfDueTime | None
    """The complete run if there is one, else the open one, else the newest."""
    runs: int
    """The number of its runs."""

    @property
    def is_done(self) -> bool:
        return self.run is not None and self.run.is_complete


def with_runs(p: Producer, wanted: Backfill) -> list[DueTime]:
    """The due times up to now, in order.

    Raises UnknownName, and UsageError for a job whose due times have no rows of their own, and for a span with no due
    times or with too many.
    """
    with reachable(p.url), p.engine.connect() as connection:
        job = jobs.get(connection, wanted.job).job
        version = _version(connection, job, wanted)
        if job.due is None:
            raise UsageError(
                f"job {job.name!r} has no schedule, which would define its due times. Nothing was enqueued; give "
                f"it one in jobs.toml, or make one run with `scorebeat enqueue {job.name} --due-at TIME`"
            )
        if DUE_AT not in parameter_values.names(connection, job):
            raise UsageError(
                f"the query of job {job.name!r} does not use :{DUE_AT}, so the run of each due time would score the "
                f"same rows. Nothing was enqueued; let the query select the rows of a due time, such as "
                f"WHERE day = :{DUE_AT}::date, or score what is pending now with `scorebeat enqueue {job.name}`"
            )
        end = min(wanted.before, database_clock.now(connection))
        due = job.due.between(wanted.first - timedelta(microseconds=1), end, MOST + 1)
        if len(due) > MOST:
            raise UsageError(
                f"there are more than {MOST:,} due times in that time. Nothing was enqueued; choose a shorter one"
            )
        if not due:
            raise UsageError(
                f"job {job.name!r} had no due time from {wanted.first.isoformat(' ', 'seconds')} on and before "
                f"{end.isoformat(' ', 'seconds')}. Nothing was enqueued"
            )
        found = due_times.runs_between(connection, job, version, due[0], due[-1] + timedelta(microseconds=1))
    return [_due_time(at, [run for run in found if run.due_at == at]) for at in due]


def _version(connection: Connection, job: Job, wanted: Backfill) -> Version:
    if wanted.version is None:
        return model_versions.of_job(connection, job)
    return model_versions.get(connection, job.model_name, wanted.version)


def _due_time(due_at: datetime, its_runs: list[RunOfDueTime]) -> DueTime:
    best = sorted(its_runs, key=lambda run: (run.is_complete, run.is_open, run.id))
    return DueTime(due_at, best[-1] if best else None, len(its_runs))


def begin(p: Producer, wanted: Backfill, due_at: datetime, by: str) -> tuple[int, bool]:
    """Open the run for this due time. Returns its id and True; or the id of a run that must end first, and False.

    A complete or open run is returned and not made again, whoever made it meanwhile.
    """
    while True:
        with reachable(p.url), p.engine.connect() as connection:
            job = jobs.get(connection, wanted.job).job
            version = _version(connection, job, wanted)
            found = due_times.runs_between(connection, job, version, due_at, due_at + timedelta(microseconds=1))
            now = _due_time(due_at, found)
            if now.run is not None and (now.run.is_complete or now.run.is_open):
                return now.run.id, True
            other = runs.open_run(connection, job.name, version.name, version.version)
            if other is not None:
                return other, False
        # two commands that see the same runs have the same key, so that one run is made
        key = f"backfill {job.name} {due_at.isoformat()} {version} {now.runs + 1}"
        try:
            return enqueue(p, Request(job.name, by, wanted.version, run_key=key, due_at=due_at)).run_id, True
        except RunOpen:
            continue  # somebody has just opened a run


def skipped(p: Producer, job: str, since: datetime) -> list[datetime]:
    """Due times that were skipped since `since`, because a run was open."""
    with reachable(p.url), p.engine.connect() as connection:
        return due_times.skipped_since(connection, job, since)
