"""Due times without a run: each leaves a record that people see, and that notices and metrics report."""

import logging
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import ScorebeatError, UnknownName, one_line
from scorebeat.core.events import emit
from scorebeat.core.jobs.job import Job
from scorebeat.db.connect import database_errors
from scorebeat.db.ledger import model_versions, runs
from scorebeat.db.ledger.runs import BEAT, Start
from scorebeat.db.predictions import prediction_sets
from scorebeat.db.records import audit, counters
from scorebeat.producer.control.ticks.due import Missed


def fail(connection: Connection, job: Job, due_at: datetime, error: Exception) -> int:
    """The run could not begin because of an error: record a failed run, which is retried."""
    if not isinstance(error, ScorebeatError | DBAPIError):
        emit("control.failed", logging.ERROR, part="tick", of=job.name, reason=one_line(error), exc=error)
    return _failed_run(connection, job, due_at, reason(job, due_at, error), again=True)


def reason(job: Job, due_at: datetime, error: Exception) -> str:
    """Why a run could not begin, and until when it is retried."""
    until = "the job is due again" if job.deadline is None else "the job is due again or its deadline has passed"
    cause = database_errors.message_with_advice(error).rstrip(".")
    why = f"the run could not begin: {cause}. It is tried again until {until}"
    return f"{why}; after that {_backfill(job, due_at, due_at)}" if job.is_by_due_time else why


def _backfill(job: Job, first: datetime, last: datetime) -> str:
    """The advice for due times whose rows no later run scores."""
    start, end = (at.isoformat(timespec="seconds") for at in (first, last + timedelta(seconds=1)))
    return f"`scorebeat backfill {job.name} --from {start} --to {end}` makes up for it"


def miss(connection: Connection, job: Job, missed: Missed) -> None:
    """No run was opened in time: record a failed run if the job has a deadline, else the count alone."""
    reason = f"{missed.in_words} passed without a run: the system was off, or could not reach the database"
    by_due_time = _backfill(job, missed.first, missed.last)
    score_now = by_due_time if job.is_by_due_time else f"`scorebeat enqueue {job.name}` scores the rows now"
    details: dict[str, Any] = {
        "due_at": missed.last.isoformat(),
        "first": missed.first.isoformat(),
        "moments": missed.count,
    }
    if job.deadline is not None:
        why = f"missed: {reason}, until the deadline was over. {score_now}"
        details["run"] = _failed_run(connection, job, missed.last, why, again=False)
    if job.is_by_due_time:
        reason = f"{reason}; {by_due_time}"
    audit.record(connection, BEAT, "tick.missed", f"job {job.name}", reason=reason, **details)
    counters.add_to_job(connection, counters.TICKS_MISSED, job.name, missed.count)
    emit("tick.missed", logging.WARNING, job=job.name, due_at=missed.last, moments=missed.count, reason=reason)


def fail_overdue(connection: Connection, job: Job, reason: str) -> int:
    """Record a failed run for an overdue job that never ran, so that a notice has a run."""
    advice = f"`scorebeat enqueue {job.name}` scores the rows now"
    return _failed_run(connection, job, None, f"{reason}. {advice}", again=False)


def fail_canary(connection: Connection, job: Job, failure: str) -> int:
    """Record a failed run for a canary that found something wrong: runs would meet it too."""
    return _failed_run(connection, job, None, f"canary: {failure}", again=False)


def skip(connection: Connection, job: Job, due_at: datetime, why: str, reason: str) -> None:
    """Record why no run is opened; `why` is one of `counters.SKIPPED`."""
    if job.is_by_due_time:
        reason = f"{reason.rstrip('.')}; {_backfill(job, due_at, due_at)}"
    audit.record(connection, BEAT, "tick.skipped", f"job {job.name}", due_at=due_at.isoformat(), reason=reason)
    counters.add_to_job(connection, counters.TICKS_SKIPPED + why, job.name, 1)
    emit("tick.skipped", logging.WARNING, job=job.name, due_at=due_at.isoformat(), reason=reason)


def _failed_run(connection: Connection, job: Job, due_at: datetime | None, reason: str, *, again: bool) -> int:
    version = job.pinned_version or 0  # there is none to score
    with suppress(UnknownName):
        version = model_versions.of_job(connection, job).version
    found = prediction_sets.find(connection, job.name, job.model_name, version) if version else None
    wanted = Start(job, job.model_name, version, found.id if found is not None else None, BEAT, due_at)
    run_id = runs.start_failed(connection, wanted, reason, again=again)
    emit("run.failed", run=run_id, job=job.name, reason=reason)
    return run_id
