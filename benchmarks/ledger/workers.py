"""Workers without models, which do to the ledger and the broker what real ones do, by the same functions.

A scoring process is a thread with the two connections of a real one: it claims a batch, waits as long as a model might
take, commits an empty part, and closes the run with its last batch. A worker's parent is a thread with one connection,
which records every few seconds that it lives, and renews the claims of its processes.

Simplified: nothing is fetched, and one consumer takes messages for all workers of an operating system process. It
acknowledges a message when somebody takes it; a real one when it is committed. Celery's own events are not sent.
"""

import queue
import resource
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pyarrow as pa
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from scorebeat.broker.app import queue as broker_queue
from scorebeat.core.errors import ClaimLost
from scorebeat.core.settings import Settings
from scorebeat.db.batch_io import columns
from scorebeat.db.batch_io.columns import Part, Timing
from scorebeat.db.closing import keyed_runs
from scorebeat.db.connect.engine import data_connection, make_engine, one_statement
from scorebeat.db.ledger import batches, runs
from scorebeat.db.ledger.batches import Claim
from scorebeat.db.predictions import prediction_sets, table_types
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.predictions.table_types import TableTypes
from scorebeat.db.processes import workers
from scorebeat.producer.context import Producer

QUEUE = "cpu"
DIES = 1 / 500
"""Share of the claims whose process dies: rescue frees them when they expire."""
TAKE_WITHIN = 0.5
"""Seconds that one waits for a message before it looks whether it is to end."""
OPENERS = 8
"""Threads of an operating system process that open connections at once."""
Sample = tuple[str, float, float]
"""What was done, when it ended by `time.monotonic`, and the seconds that it took."""


@dataclass(frozen=True)
class Played:
    """What one operating system process plays."""

    settings: Settings
    first: int
    """The number of its first scoring process."""
    scorers: int
    scorers_a_worker: int


@dataclass
class _Process:
    played: Played
    pause: Any
    """A shared number: seconds from a claim to its commit, on average."""
    stop: Any
    todo: "queue.Queue[int]" = field(default_factory=lambda: queue.Queue(1))
    samples: list[Sample] = field(default_factory=list)
    targets: dict[int, tuple[PredictionSet, TableTypes]] = field(default_factory=dict)
    """By run."""

    def timed(self, what: str, began: float) -> None:
        now = time.monotonic()
        self.samples.append((what, now, now - began))


def play(played: Played, ready: Any, pause: Any, stop: Any, found: Any) -> None:
    """Until `stop`: then the samples and the CPU seconds of this process are put into `found`."""
    sys.setswitchinterval(0.0005)  # a thread with a reply from PostgreSQL waits less for the others
    process = _Process(played, pause, stop)
    parents: list[_Parent] = []
    scorers: list[_Scorer] = []
    for first in range(0, played.scorers, played.scorers_a_worker):
        parents.append(_Parent(process, f"cpu@sim-{played.first + first}/{played.first + first:04x}"))
        count = min(played.scorers_a_worker, played.scorers - first)
        scorers += [_Scorer(process, parents[-1], first + number) for number in range(count)]
    everybody: list[_Parent | _Scorer] = [*parents, *scorers]
    waiting = iter(everybody)
    lock = threading.Lock()

    def open_some() -> None:
        while True:
            with lock:
                following = next(waiting, None)
            if following is None:
                return
            following.open()

    openers = [threading.Thread(target=open_some) for _ in range(OPENERS)]
    for thread in openers:
        thread.start()
    for thread in openers:
        thread.join()
    ready.wait()
    consumer = threading.Thread(target=_consume, args=(process,))
    threads = [consumer, *(threading.Thread(target=one.run) for one in everybody)]
    before = _cpu()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.put((process.samples, _cpu() - before))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _consume(process: _Process) -> None:
    """Take messages from the broker, one whenever somebody is free."""
    p = Producer(process.played.settings, "simulated")
    with p.app.connection() as connection:
        waiting = connection.SimpleQueue(broker_queue(QUEUE))
        waiting.consumer.qos(prefetch_count=1)
        while not process.stop.is_set():
            try:
                message = waiting.get(timeout=TAKE_WITHIN)
            except waiting.Empty:
                continue
            batch_id = int(message.payload[0][0])
            while not process.stop.is_set():
                with suppress(queue.Full):
                    process.todo.put(batch_id, timeout=TAKE_WITHIN)
                    message.ack()
                    break
    p.close()


class _Parent:
    """A worker's parent: `worker.lifecycle.heartbeat.Pulse` without Celery, which knows the tasks in progress."""

    def __init__(self, process: _Process, name: str) -> None:
        self.name = name
        self.running: set[int] = set()
        """Batches that its processes have claimed."""
        self._process = process
        self._settings = process.played.settings
        self._engine: Engine

    def open(self) -> None:
        self._engine = make_engine(self._settings.database(), f"scorebeat heartbeat {self.name}", pool_size=1)
        self._engine.connect().close()

    def run(self) -> None:
        every = self._settings.heartbeat.total_seconds()
        following = time.monotonic() + Random(self.name).uniform(0, every)  # noqa: S311 -- spreads them; no secret
        while not self._process.stop.is_set():
            time.sleep(max(0.0, min(0.2, following - time.monotonic())))
            if time.monotonic() >= following:
                following += every
                began = time.monotonic()
                self._beat()
                self._process.timed("heartbeat", began)
        self._engine.dispose()

    def _beat(self) -> None:
        count = self._process.played.scorers_a_worker
        with self._engine.begin() as connection:
            workers.seen(connection, self.name, [QUEUE], "cpu", count)
        if running := list(self.running):
            with self._engine.begin() as connection:
                batches.renew(connection, running, self.name, self._settings.claim_ttl)


class _Scorer:
    """A scoring process: `worker.scoring.score.score_batch` without rows and a model."""

    def __init__(self, process: _Process, parent: _Parent, number: int) -> None:
        self._process = process
        self._parent = parent
        self._pid = 1000 + number
        self._settings = process.played.settings
        self._random = Random(process.played.first + number)  # noqa: S311 -- as above
        self._engine: Engine
        self._data: Any = None

    def open(self) -> None:
        url = self._settings.database()
        self._engine = make_engine(url, f"scorebeat {self._parent.name}", pool_size=1)
        self._engine.connect().close()
        self._data = data_connection(url, f"scorebeat {self._parent.name} data")

    def run(self) -> None:
        time.sleep(self._random.uniform(0, self._process.pause.value))  # they began at different times
        while not self._process.stop.is_set():
            with suppress(queue.Empty):
                self._score(self._process.todo.get(timeout=TAKE_WITHIN))
        self._data.close()
        self._engine.dispose()

    def _score(self, batch_id: int) -> None:
        began = time.monotonic()
        with one_statement(self._engine) as connection:
            held = batches.claim(connection, batch_id, self._parent.name, self._settings.claim_ttl, "cpu", self._pid)
        self._process.timed("claim", began)
        if held is None or self._random.random() < DIES:
            return
        self._parent.running.add(batch_id)
        try:
            target, types = self._target(held)
            time.sleep(self._process.pause.value * self._random.uniform(0.5, 1.5))
            began = time.monotonic()
            is_last = columns.commit(self._data, held, target, Part(_NOTHING, types=types), Timing(0.0, 0.0))
            self._process.timed("commit", began)
        except ClaimLost:
            return
        finally:
            self._parent.running.discard(batch_id)
        if is_last:
            began = time.monotonic()
            with suppress(DBAPIError):  # a lock: control closes it
                keyed_runs.settle(self._engine, held.run_id, self._settings.max_attempts)
            self._process.timed("settle", began)

    def _target(self, held: Claim) -> tuple[PredictionSet, TableTypes]:
        """Read once a run and operating system process; a real scoring process reads each of its runs itself."""
        if held.run_id not in self._process.targets:
            with self._engine.connect() as connection:
                target = prediction_sets.get(connection, runs.get(connection, held.run_id).prediction_set_id)
            self._process.targets[held.run_id] = target, table_types.table_types(self._data, target)
        return self._process.targets[held.run_id]


_NOTHING = pa.table({})
