"""Follows deleted rows: when a run of a job with `deleted = "follow"` ends, predictions without a source row go."""

import logging

from scorebeat.core.errors import one_line
from scorebeat.core.events import emit
from scorebeat.db.connect import database_clock
from scorebeat.db.ledger import followed_runs, jobs, runs
from scorebeat.db.records import audit
from scorebeat.producer import retention
from scorebeat.producer.context import Producer
from scorebeat.producer.keep_going import count_each

BY = "scorebeat"


def is_due(p: Producer) -> bool:
    """Whether a run ended after which no prediction was looked for yet."""
    with p.engine.connect() as connection:
        return bool(followed_runs.due(connection))


def run_once(p: Producer) -> int:
    """Look once after each run that ended; returns how many predictions were deleted.

    The run is marked before, so that no other process does the same; what a process that dies leaves, the end of the
    next run finds.
    """
    with p.engine.connect() as connection:
        due = followed_runs.due(connection)
    return count_each("follow_deletes", due, lambda run_id: _follow(p, run_id))


def _follow(p: Producer, run_id: int) -> int:
    with p.engine.begin() as connection:
        if not followed_runs.take(connection, run_id):
            return 0
        job = jobs.get(connection, runs.get(connection, run_id).job.name).job  # the run's may have values of its own
        cutoff = database_clock.now(connection)
    done = retention.follow(p, job, cutoff)
    removed = done.counts[retention.PREDICTIONS]
    quarantined = done.counts[retention.QUARANTINED]
    left = one_line("; ".join(done.notes)) or None
    is_news = bool(removed or quarantined or left is not None)
    with p.engine.begin() as connection:
        if left is None:
            followed_runs.record(connection, run_id, removed)
        if is_news:
            details = {"run": run_id, "predictions": removed, "quarantined": quarantined, "left": left}
            audit.record(connection, BY, "predictions.followed", f"job {job.name}", **details)
    if is_news:
        emit(
            "predictions.followed",
            logging.INFO if left is None else logging.WARNING,
            run=run_id,
            job=job.name,
            removed=removed,
            quarantined=quarantined,
            left=left,
        )
    return removed
