"""Canaries are sent when they are due, and reported when they end; a bad one leaves a failed run of its job."""

from datetime import timedelta

from scorebeat.broker.send import send_canary
from scorebeat.core.events import emit
from scorebeat.db.ledger import canaries, jobs
from scorebeat.producer.context import Producer
from scorebeat.producer.control import missed

LASTS = timedelta(minutes=15)
"""Time that workers have for it: they may be busy with batches of other jobs."""


def run_once(p: Producer) -> int:
    """Send what is due, and report what ended. Returns how many were sent."""
    with p.engine.begin() as connection:
        canaries.give_up(connection)
        ended = canaries.take_unreported(connection)
        known = {row.job.name: row for row in jobs.listing(connection)}
        failed = [
            (one, missed.fail_canary(connection, known[one.job].job, one.failure))
            for one in ended
            if one.failure is not None and one.job in known
        ]
        due = [
            row.job
            for row in known.values()
            if row.job.canary is not None
            and row.paused_at is None
            and canaries.is_due(connection, row.job.name, row.job.canary.every)
        ]
        sent = [(job, canaries.add(connection, job.name, job.queue, LASTS)) for job in due]
    for one, run_id in failed:
        emit("canary.failed", job=one.job, canary=one.id, worker=one.worker, run=run_id, reason=one.failure)
    for job, canary_id in sent:
        send_canary(p.app, job.queue, canary_id, LASTS.total_seconds())
    return len(sent)
