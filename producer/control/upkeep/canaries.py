"""Canaries are sent when they are due, and reported when they end; a bad one leaves a failed run of its job."""

from contextlib import suppress

from scorebeat.broker.send import send
from scorebeat.core.errors import UnknownName
from scorebeat.core.events import emit
from scorebeat.core.queues import CANARY
from scorebeat.db.connect import database_clock
from scorebeat.db.ledger import jobs
from scorebeat.db.ledger.evidence import canaries
from scorebeat.producer.context import Producer
from scorebeat.producer.control.ticks import missed


def run_once(p: Producer) -> int:
    """Send what is due, and report what ended. Returns how many were sent."""
    failed = []
    with p.engine.begin() as connection:
        canaries.give_up(connection)
        for one in canaries.take_unreported(connection):
            if one.failure is not None:
                with suppress(UnknownName):  # its job left jobs.toml
                    job = jobs.get(connection, one.job).job
                    failed.append((one, missed.fail_canary(connection, job, one.failure)))
        now = database_clock.now(connection)
        due = [one for one in canaries.watched(connection) if one.is_due(now)]
        sent = [(one, canaries.add(connection, one.job, one.queue)) for one in due]
    for one, run_id in failed:
        emit("canary.failed", job=one.job, canary=one.id, worker=one.worker, run=run_id, reason=one.failure)
    for watched, canary_id in sent:
        send(p.app, CANARY, [canary_id], expires=canaries.LASTS.total_seconds(), queue_name=watched.queue)
    return len(sent)
