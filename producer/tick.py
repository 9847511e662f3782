"""Ticks: answering a job's schedule once for each due moment, however many beats ask."""

import logging
from datetime import datetime, timedelta

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import ScorebeatError, SourceLocked, one_line
from scorebeat.core.events import emit
from scorebeat.core.jobs import Job
from scorebeat.core.schedule import Schedule
from scorebeat.db import actions, failures, jobs, locks
from scorebeat.producer.apart import apart
from scorebeat.producer.context import Producer
from scorebeat.producer.enqueue import Request, open_run, send_plan

BEAT = "beat"
EARLY = timedelta(seconds=1)
"""Beat's clock may be ahead of the database's by so much."""
PATIENCE = timedelta(seconds=3)
"""How long a due moment waits for beat's message before the control tick answers it."""


def tick(p: Producer, name: str) -> int | None:
    """Open a run if the job is due; None when it is not, was answered before, or was skipped.

    The newest due moment counts, so one that was missed is made up once. The ledger's clock decides.
    """
    try:
        run_id = _answer(p, name)
    except (DBAPIError, SourceLocked) as error:
        if not failures.is_lock(error):
            raise
        # the due moment is not marked as answered: `make_up` tries again each second
        emit("tick.waits", logging.WARNING, job=name, reason=one_line(error))
        return None
    if run_id is not None:
        send_plan(p, run_id)
    return run_id


def _answer(p: Producer, name: str) -> int | None:
    """The run that was opened, without a wait: control moves all other runs too."""
    with p.engine.begin() as connection:
        locks.wait_at_most(connection, locks.IN_CONTROL)
        due_at = _take(connection, name)
        if due_at is None:
            return None
        try:
            with connection.begin_nested():
                return open_run(p, connection, Request(name, BEAT, due_at=due_at))
        except SourceLocked:
            raise
        except ScorebeatError as error:
            _skip(connection, name, due_at, str(error))
            return None


def make_up(p: Producer) -> int:
    """Answer ticks that nobody asked for in time: a message was lost, or beat or its clock is wrong.

    A job that fails stops no other.
    """
    with p.engine.begin() as connection:
        late = jobs.now(connection) - PATIENCE
        overdue = [r.job.name for r in jobs.listing(connection) if is_due(r.job, r.last_due_at, late)]
    made = 0
    for name in overdue:
        with apart("make_up", name):
            made += tick(p, name) is not None
    return made


def is_due(job: Job, last_due_at: datetime, now: datetime) -> datetime | None:
    """The due moment that is to be answered now; None when there is none, or its results would be too late."""
    if job.schedule is None:
        return None
    latest = Schedule.parse(job.schedule, job.timezone).latest_due(now)
    if latest <= last_due_at or (job.deadline is not None and latest + job.deadline <= now):
        return None
    return latest


def _take(connection: Connection, name: str) -> datetime | None:
    """Mark the due moment as answered; the second of two beats finds it taken."""
    row = jobs.get(connection, name, lock=True)
    due_at = is_due(row.job, row.last_due_at, jobs.now(connection) + EARLY)
    if due_at is None or not jobs.answered(connection, name, due_at):
        return None
    if row.paused_at is not None:
        _skip(connection, name, due_at, f"paused by {row.paused_by}: {row.paused_reason}")
        return None
    return due_at


def _skip(connection: Connection, name: str, due_at: datetime, reason: str) -> None:
    actions.record(connection, BEAT, "tick.skipped", f"job {name}", due_at=due_at.isoformat(), reason=reason)
    emit("tick.skipped", job=name, due_at=due_at.isoformat(), reason=reason)
