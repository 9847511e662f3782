"""Ticks: open one run for each due time of a job's schedule, however many beats send messages."""

import logging
from datetime import datetime, timedelta

from billiard.exceptions import SoftTimeLimitExceeded
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import RunOpen, SourceLocked, one_line
from scorebeat.core.events import emit
from scorebeat.core.jobs.job import Job
from scorebeat.db.connect import database_clock, database_errors, locks
from scorebeat.db.ledger import jobs, runs
from scorebeat.db.ledger.runs import BEAT
from scorebeat.db.records.counters import BUSY, PAUSED
from scorebeat.producer.context import Producer
from scorebeat.producer.control.ticks import due, missed
from scorebeat.producer.control.ticks.due import PATIENCE
from scorebeat.producer.keep_going import count_each
from scorebeat.producer.requests.enqueue import Request, open_run, send_plan

EARLY = timedelta(seconds=1)
"""Beat's clock may be ahead of the database's by this much."""
PASSES_WITHIN = timedelta(minutes=1)
"""How long a tick waits for a transient cause, such as a lock; then it is a failed run like any other."""


def tick(p: Producer, name: str) -> int | None:
    """Open a run if the job is due. Returns None if it is not due, has its run already, or no run could be opened.

    Only the newest due time counts, so several missed ones are made up by one run. The ledger's clock decides.
    """
    try:
        run_id = _open_if_due(p, name)
    except (DBAPIError, SourceLocked) as error:
        if not database_errors.is_lock(error):
            raise
        # the due time is not marked as handled: `make_up` retries each second
        emit("tick.waits", logging.WARNING, job=name, reason=one_line(error))
        return None
    if run_id is not None:
        send_plan(p, run_id)
    return run_id


def _open_if_due(p: Producer, name: str) -> int | None:
    """The run that was opened. It waits for no lock, because control moves all other runs too."""
    with p.engine.begin() as connection:
        locks.wait_at_most(connection, locks.IN_CONTROL)
        row = jobs.get(connection, name, lock=True)
        now = database_clock.now(connection)
        found = due.find(row.job, row.last_due_at, now + EARLY, now)
        # of two beats' ticks the second finds the due time handled
        if found is None or not jobs.mark_handled(connection, name, found.newest):
            return None
        job, due_at = row.job, found.newest
        if row.paused_at is not None:
            missed.skip(connection, job, due_at, PAUSED, f"paused by {row.paused_by}: {row.paused_reason}")
            return None
        if found.missed is not None:
            missed.miss(connection, job, found.missed)
        if not found.is_in_time:
            return None
        try:
            with connection.begin_nested():
                return open_run(p, connection, Request(name, BEAT, due_at=due_at))
        except RunOpen as error:
            missed.skip(connection, job, due_at, BUSY, str(error))
        except SoftTimeLimitExceeded:
            raise
        except Exception as error:
            if database_errors.passes(error) and database_clock.now(connection) - due_at < PASSES_WITHIN:
                raise
            missed.fail(connection, job, due_at, error)
        return None


def make_up(p: Producer) -> int:
    """Open runs for due times whose message did not come in time: it was lost, or beat or its clock is wrong.

    A job that fails stops no other.
    """
    with p.engine.begin() as connection:
        now = database_clock.now(connection)
        listed = jobs.listing(connection)
        late = [row for row in listed if due.find(row.job, row.last_due_at, now - PATIENCE, now) is not None]
    return count_each("make_up", [row.job.name for row in late], lambda job: tick(p, job) is not None)


def begin_again(p: Producer) -> int:
    """Retry due times whose run could not begin, while there is time; returns how many runs were opened.

    A job that fails stops no other.
    """
    with p.engine.begin() as connection:
        waiting = runs.to_begin_again(connection)
    return count_each("begin_again", waiting, lambda run_id: _begin_again(p, run_id))


def _begin_again(p: Producer, failed_id: int) -> bool:
    with p.engine.begin() as connection:
        locks.wait_at_most(connection, locks.IN_CONTROL)
        failed = runs.take_not_begun(connection, failed_id)
        if failed is None:
            return False
        row = jobs.get(connection, failed.job, lock=True)
        if not _has_time(connection, row.job, failed.due_at):
            runs.begin_no_more(connection, failed_id)
            return False
        if row.paused_at is not None:
            runs.begin_later(connection, failed_id)
            return False
        try:
            with connection.begin_nested():
                run_id = open_run(p, connection, Request(failed.job, BEAT, due_at=failed.due_at))
        except SoftTimeLimitExceeded:
            raise
        except Exception as error:  # noqa: BLE001 -- as when it was due
            runs.begin_later(connection, failed_id, missed.reason(row.job, failed.due_at, error))
            return False
        runs.begin_no_more(connection, failed_id)
    send_plan(p, run_id)
    return True


def _has_time(connection: Connection, job: Job, due_at: datetime) -> bool:
    """Whether the job is not due again yet, and its deadline has not passed."""
    if job.due is None:
        return False
    end = job.due.next_due(due_at)
    return database_clock.now(connection) < (end if job.deadline is None else min(end, due_at + job.deadline))
