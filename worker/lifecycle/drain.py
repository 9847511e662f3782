"""A worker that is asked to stop ends when its batches are done, not when their time limit is over."""

import logging
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from celery import bootsteps
from celery.worker import state
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import one_line
from scorebeat.core.events import emit
from scorebeat.core.process.identity import worker_name
from scorebeat.core.queues import SCORE
from scorebeat.db.ledger import batches
from scorebeat.worker.lifecycle import standstill
from scorebeat.worker.lifecycle.connection import ledger
from scorebeat.worker.lifecycle.heartbeat import release

CLAIMED_WITHIN = 1.0
"""Seconds that a process may take from a message to its claim; before that the ledger is not read."""
LOOK_EVERY = 0.5
OBEYS_WITHIN = 5.0
"""Seconds that a process may take to end after the drain."""


class Drain(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery publishes no types
    """Replaces Celery's wait in a soft shutdown.

    Celery sleeps for the whole of `worker_soft_shutdown_timeout`. Its event loop stands still, so it does not notice
    that a task is done. The ledger knows.
    """

    requires = ("celery.worker.components:Pool",)

    def start(self, parent: Any) -> None:
        seconds = parent.app.conf.worker_soft_shutdown_timeout

        def wait_for_soft_shutdown() -> None:
            wait(seconds)
            threading.Thread(target=end_those_left, args=(standstill.processes(parent),), daemon=True).start()

        parent.wait_for_soft_shutdown = wait_for_soft_shutdown


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


def end_those_left(pids: Iterable[int]) -> None:
    """Kill the processes that Celery's signal does not end, as one whose model is in native code or catches all.

    Celery waits for them without an end, and renews no claims meanwhile. Their batches are released first: they cost
    no attempt.
    """
    time.sleep(OBEYS_WITHIN)
    left = [pid for pid in pids if _is_child(pid)]
    if not left:
        return
    release()
    for pid in left:
        standstill.kill(pid, f"it did not end within {OBEYS_WITHIN:g} s of the signal to stop", logging.WARNING)


def _is_child(pid: int) -> bool:
    """Whether the process is a child of this one, and has not ended."""
    try:
        run_state, parent = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
    except (OSError, ValueError):
        return False
    return run_state not in "ZX" and int(parent) == os.getpid()
