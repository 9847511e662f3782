"""The whole way of a model, in this process: add, apply, enqueue, plan, score each batch, read what a reader reads."""

import os
import random
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2

from scorebeat.core.jobs.job import Job
from scorebeat.core.settings import Settings
from scorebeat.db.ledger import runs
from scorebeat.producer.context import Producer
from scorebeat.producer.control.plan import plan
from scorebeat.producer.requests.apply import apply
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.producer.versions.publish import Added, add, publish
from scorebeat.worker.scoring.runtime import Runtime
from scorebeat.worker.scoring.score import score_batch
from tests.parity import table
from tests.parity.case import Built

BATCH_ROWS = 80
"""Each case has two batches at least, the last of them a short one."""
NOT_OUTPUTS = ("id", "batch_id", "scored_at")


@dataclass(frozen=True)
class Scored:
    """The predictions that a reader finds after a run, by the position of the row in the case's DataFrame."""

    state: str
    columns: tuple[str, ...]
    predictions: Mapping[int, Mapping[str, Any]]
    quarantined: Mapping[int, str]


@dataclass
class Parity:
    """One database, one store of models and one worker process's state for all cases."""

    settings: Settings
    producer: Producer = field(init=False)
    worker: Runtime = field(init=False)

    def __post_init__(self) -> None:
        self.producer = Producer(self.settings, "parity")
        self.worker = Runtime(self.settings, name="parity")

    def close(self) -> None:
        self.worker.close()
        self.producer.close()

    def run(self, title: str, built: Built, folder: Path) -> Scored:
        """Add the model, and score the rows of the case by a job of the same name."""
        name = re.sub("[^a-z0-9]+", "_", title.lower()).strip("_")[:40].rstrip("_")
        keys = random.Random(title).sample(range(-10_000, 10_000), len(built.frame))
        with self._cursor() as cursor:
            table.create(cursor, f'"t_{name}"', built.frame, keys, built.types)
        added = self.add(name, built, folder)
        run_id = self._score(name, built.query.format(table=f'"t_{name}"'))
        if not added.version.published:
            publish(self.producer, name, added.version.version, "parity")
        return self._read(name, run_id, keys)

    def add(self, name: str, built: Built, folder: Path) -> Added:
        """`scorebeat models add`, typed in the case's folder."""
        with _inside(folder):
            return add(self.producer, str(built.source), name, "parity", built.options)

    def _score(self, name: str, query: str) -> int:
        job = Job(name=name, query=query, key=("id",), model=name, batch_rows=BATCH_ROWS, error_threshold=-1.0)
        apply(self.producer, [job], "parity")
        run_id = enqueue(self.producer, Request(name, "parity", version=1)).run_id
        plan(self.producer, run_id)
        with self._cursor() as cursor:
            cursor.execute("SELECT id FROM scorebeat.batches WHERE run_id = %s ORDER BY number", (run_id,))
            batches = [batch_id for (batch_id,) in cursor.fetchall()]
        for batch_id in batches:
            score_batch(batch_id, self.worker)
        return run_id

    def _read(self, name: str, run_id: int, keys: list[int]) -> Scored:
        at = {key: position for position, key in enumerate(keys)}
        with self.producer.engine.connect() as connection:
            state = runs.get(connection, run_id).state.value
        with self._cursor() as cursor:
            cursor.execute(f'SELECT * FROM predictions."{name}" ORDER BY id')
            columns = tuple(column.name for column in cursor.description)
            rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
            cursor.execute(
                "SELECT (q.key->>0)::bigint, q.error FROM scorebeat.quarantine q"
                " JOIN scorebeat.batches b ON b.id = q.batch_id WHERE b.run_id = %s",
                (run_id,),
            )
            quarantined = {at[key]: error for key, error in cursor.fetchall()}
        assert len({row["id"] for row in rows}) == len(rows)
        outputs = tuple(column for column in columns if column not in NOT_OUTPUTS)
        return Scored(state, outputs, {at[row["id"]]: row for row in rows}, quarantined)

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        """One transaction of a reader's own connection."""
        connection = psycopg2.connect(self.settings.database().replace("postgresql+psycopg2:", "postgresql:"))
        try:
            with connection, connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
