"""A worker that is asked to stop ends when its batches are done, not when their time limit is over."""

import time
from typing import Any

from celery import bootsteps
from celery.worker import state
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import one_line
from scorebeat.core.events import emit
from scorebeat.core.identity import worker_name
from scorebeat.core.queues import SCORE
from scorebeat.db.ledger import batches
from scorebeat.worker.lifecycle.connection import ledger

CLAIMED_WITHIN = 1.0
"""Seconds that a process may take from a message to its claim; before that the ledger is not read."""
LOOK_EVERY = 0.5


class Drain(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery publishes no types
    """Replaces Celery's wait in a soft shutdown.

    Celery sleeps for the whole of `worker_soft_shutdown_timeout`. Its event loop stands still, so it does not notice
    that a task is done. The ledger knows.
    """

    requires = ("celery.worker.components:Pool",)

    def start(self, parent: Any) -> None:
        seconds = parent.app.conf.worker_soft_shutdown_timeout
        parent.wait_for_soft_shutdown = lambda: wait(seconds)


def wait(seconds: float) -> None:
    """Return when this worker has nothing in progress, or after so many seconds.

    It runs in the handler of the signal; another signal's handler runs within it.
    """
    until = time.monotonic() + seconds
    if seconds <= 0 or not state.active_requests:
        return
    emit("worker.drains", worker=worker_name(), seconds=seconds)
    time.sleep(min(CLAIMED_WITHIN, seconds))
    while _is_busy() and time.monotonic() < until:
        time.sleep(min(LOOK_EVERY, seconds))


def _is_busy() -> bool:
    """Control and plans do not claim, so they have all the time. A worker that cannot reach the ledger is busy."""
    if any(request.name != SCORE for request in tuple(state.active_requests)):
        return True
    try:
        with ledger() as connection:
            return batches.is_held(connection, worker_name())
    except DBAPIError as error:
        emit("heartbeat.database_away", reason=one_line(error.orig))
        return True
