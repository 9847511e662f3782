"""The heartbeat: the worker's parent renews the claims and plans that its processes run."""

import logging
import threading
from typing import Any

from celery import bootsteps, signals
from celery.exceptions import ImproperlyConfigured
from celery.worker import state
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from scorebeat.core.data_folder import joined
from scorebeat.core.errors import one_line
from scorebeat.core.events import emit
from scorebeat.core.process.identity import worker_name
from scorebeat.core.queues import PLAN, SCORE
from scorebeat.core.settings import Settings, load_settings
from scorebeat.db.connect.engine import make_engine
from scorebeat.db.ledger import batches, plan_lease
from scorebeat.db.processes import workers
from scorebeat.worker.lifecycle.connection import ledger
from scorebeat.worker.lifecycle.devices import device

POOLS = ("prefork", "solo")
"""Solo is for debugging; pools of threads would share one connection."""


class Heartbeat(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery publishes no types
    """A thread of the parent: a model that holds the interpreter's lock would starve one in the child."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        if parent.pool_cls.__module__.rpartition(".")[2] not in POOLS:
            raise ImproperlyConfigured(
                "Scorebeat needs Celery's prefork pool: it alone has time limits and survives a crash of its child. "
                "Leave -P out."
            )
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, parent: Any) -> None:
        pulse = Pulse(joined(load_settings()), sorted(parent.app.amqp.queues.consume_from), parent.concurrency)
        self._thread = threading.Thread(target=pulse.run, args=(self._stop,), name="heartbeat", daemon=True)
        self._thread.start()
        # this step is stopped before the pool is: batches still run then, and their claims need renewing
        signals.worker_shutdown.connect(self._stop_thread, weak=False)
        # the second signal ends the processes at once, but their parent only when the soft shutdown is over
        signals.worker_shutting_down.connect(_release_if_cold, weak=False)

    def terminate(self, parent: Any) -> None:  # noqa: ARG002 -- the bootstep's signature
        """Shut down at once: the batches in progress are pending again."""
        self._stop.set()
        release()

    def _stop_thread(self, **_: Any) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)


def _release_if_cold(how: str, **_: Any) -> None:
    """In a cold shutdown Celery has ended its processes."""
    if how == "Cold":
        release()


def release() -> None:
    """Make this worker's batches pending again, because it finishes none of them."""
    try:
        with ledger() as connection:
            released = batches.release_all(connection, worker_name())
        emit("claims.released", worker=worker_name(), batches=released)
    except DBAPIError as error:
        emit("heartbeat.database_away", reason=one_line(error.orig))


class Pulse:
    """Renews all claims and all plans of this worker every few seconds, each in one statement, until stopped."""

    def __init__(self, settings: Settings, queues: list[str], processes: int) -> None:
        self._settings = settings
        self._queues = queues
        self._processes = processes

    def run(self, stop: threading.Event) -> None:
        engine = make_engine(self._settings.database(), f"scorebeat heartbeat {worker_name()}", pool_size=1)
        is_away = False
        while True:
            try:
                self.beat(engine)
            except DBAPIError as error:
                if not is_away:  # one line for a night without a database
                    emit("heartbeat.database_away", logging.WARNING, reason=one_line(error.orig))
                is_away = True
            else:
                if is_away:
                    emit("heartbeat.database_back")
                is_away = False
            if stop.wait(self._settings.heartbeat.total_seconds()):
                break
        try:
            with engine.begin() as connection:
                workers.gone(connection, worker_name())
        except DBAPIError as error:
            emit("heartbeat.database_away", reason=one_line(error.orig))
        engine.dispose()

    def beat(self, engine: Engine) -> None:
        """Once: record that this worker lives, and renew its batches and plans."""
        name, ttl = worker_name(), self._settings.claim_ttl
        running: dict[str, list[int]] = {SCORE: [], PLAN: []}
        for request in tuple(state.active_requests):
            if request.name in running and request.args and isinstance(request.args[0], int):
                running[request.name].append(request.args[0])
        with engine.begin() as connection:
            workers.seen(connection, name, self._queues, str(device.current()), self._processes)
        if running[SCORE]:
            with engine.begin() as connection:
                batches.renew(connection, running[SCORE], name, ttl)
        if running[PLAN]:
            with engine.begin() as connection:
                plan_lease.renew(connection, running[PLAN], name, ttl)
