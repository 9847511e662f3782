"""`--burst`: a worker that stops when nothing is left to do on its queues."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from celery import bootsteps
from celery.worker import state
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from scorebeat.core.data_folder import joined
from scorebeat.core.errors import one_line
from scorebeat.core.events import emit
from scorebeat.core.process.identity import worker_name
from scorebeat.core.queues import CONTROL_QUEUE, PLAN_QUEUE
from scorebeat.core.settings import load_settings
from scorebeat.db.closing import open_runs
from scorebeat.db.connect.engine import make_engine
from scorebeat.db.processes import workers

LOOK_EVERY = 1.0
PATIENCE = 60.0
"""Seconds without a control worker, and with nothing in progress, after which the worker stops waiting."""

DONE, GIVEN_UP = 0, 1
"""Exit codes."""


class Burst(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery publishes no types
    """A thread of the parent. It reads the ledger, not the broker: a batch that waits for a retry is in no queue."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, burst: bool = False, **options: Any) -> None:
        super().__init__(parent, **options)
        self.enabled = burst
        self._stop = threading.Event()

    def start(self, parent: Any) -> None:
        watch = Watch(sorted(parent.app.amqp.queues.consume_from))
        threading.Thread(target=self._run, args=(watch,), name="burst", daemon=True).start()

    def stop(self, parent: Any) -> None:  # noqa: ARG002 -- the bootstep's signature
        self._stop.set()

    def _run(self, watch: "Watch") -> None:
        engine = make_engine(joined(load_settings()).database(), f"scorebeat burst {worker_name()}", pool_size=1)
        code = None
        while code is None and not self._stop.wait(LOOK_EVERY):
            try:
                code = watch.look(engine)
            except DBAPIError as error:
                emit("burst.database_away", reason=one_line(error.orig))
        engine.dispose()
        if code is not None:
            state.should_stop = code  # what SIGTERM does: a warm shutdown


class Watch:
    """Decides at each look whether the worker is still needed."""

    def __init__(self, queues: list[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._queues = queues
        self._clock = clock
        self._alone_since: float | None = None

    def look(self, engine: Engine) -> int | None:
        """The exit code if there is nothing more to wait for; None to go on."""
        with engine.connect() as connection:
            waiting = open_runs.on(connection, self._queues)
            missing = {CONTROL_QUEUE, PLAN_QUEUE} - workers.served(connection)
        if not waiting:
            emit("burst.done", queues=self._queues)
            return DONE
        if state.active_requests or not missing:
            self._alone_since = None
            return None
        # no worker plans runs, or none sends planned batches: wait for one, but only PATIENCE seconds
        run = waiting[0]
        lacking = f"nobody serves {' and '.join(sorted(missing))}: start `scorebeat worker --control`"
        if self._alone_since is None:
            self._alone_since = self._clock()
            emit("burst.waiting", logging.WARNING, run=run.id, state=run.state, reason=lacking)
        if self._clock() - self._alone_since < PATIENCE:
            return None
        emit("burst.given_up", logging.ERROR, run=run.id, state=run.state, reason=lacking)
        return GIVEN_UP
