"""Jobs of other kinds beside the large run, with a writer: a snapshot, rows that change, every row in every run."""

import random
import threading
import time
from typing import Any

import psycopg2
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import ScorebeatError
from scorebeat.core.jobs.job import Job
from scorebeat.core.settings import Settings
from scorebeat.db.ledger import runs
from scorebeat.producer.context import Producer
from scorebeat.producer.requests.enqueue import Request, enqueue

MODEL = "calm"
"""The poison model without any poison: twice its input."""
CHANGED = Job(
    name="changed", query="SELECT id, x, at FROM visits", key=("id",), model=MODEL, batch_rows=2_000,
    changed_at="at", keep_history=True, schedule="every 5 seconds",
)  # fmt: skip
GROUPED = Job(
    name="grouped", query="SELECT id, avg(x) AS x FROM readings GROUP BY id", key=("id",), model=MODEL,
    batch_rows=2_000, snapshot=True, schedule="every 15 seconds",
)  # fmt: skip
ANEW = Job(
    name="anew", query="SELECT id, x FROM visits WHERE id <= 20000", key=("id",), model=MODEL, batch_rows=2_000,
    rescore="every-run", schedule="every 30 seconds",
)  # fmt: skip
JOBS = (CHANGED, GROUPED, ANEW)
TABLES = (
    "CREATE TABLE visits (id bigserial PRIMARY KEY, x float8 NOT NULL, at timestamptz NOT NULL DEFAULT now())",
    "CREATE INDEX ON visits (at)",
    "INSERT INTO visits (x) SELECT i FROM generate_series(1, 20000) i",
    "CREATE TABLE readings (id bigint NOT NULL, x float8 NOT NULL)",
    "INSERT INTO readings SELECT i % 5000 + 1, i % 5000 + 1 FROM generate_series(1, 20000) i",
)
_STALE = {
    CHANGED.name: "SELECT count(*) FROM visits s FULL JOIN predictions.changed p USING (id)"
    " WHERE p.value IS DISTINCT FROM 2 * s.x",
    GROUPED.name: "SELECT count(*) FROM (SELECT DISTINCT id, x FROM readings) s FULL JOIN predictions.grouped p"
    " USING (id) WHERE p.value IS DISTINCT FROM 2 * s.x",
    ANEW.name: "SELECT count(*) FROM (SELECT * FROM visits WHERE id <= 20000) s FULL JOIN predictions.anew p USING (id)"
    " WHERE p.value IS DISTINCT FROM 2 * s.x",
}
"""Rows that are lost, doubled, wrong or stale, when nothing changes any more."""


class Writer(threading.Thread):
    """Changes and adds rows in transactions of up to two seconds, some of which roll back, until it is stopped."""

    def __init__(self, url: str, seed: int) -> None:
        super().__init__(daemon=True)
        self._url, self._random = url, random.Random(seed)
        self.stopped = threading.Event()
        self.committed = 0

    def run(self) -> None:
        while not self.stopped.is_set():
            try:
                self._write(psycopg2.connect(self._url))
            except psycopg2.Error:  # the database is away; that is the soak
                self.stopped.wait(0.5)

    def _write(self, connection: Any) -> None:
        while not self.stopped.is_set():
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO visits (x) SELECT random() FROM generate_series(1, 50)")
                self.stopped.wait(self._random.choice([0, 0.1, 2]))
                cursor.execute(
                    "UPDATE visits SET x = random(), at = clock_timestamp() WHERE id IN"
                    " (SELECT floor(random() * 20000)::bigint + 1 FROM generate_series(1, 100))"
                )
                cursor.execute(
                    "INSERT INTO readings SELECT n.id, n.id FROM (SELECT max(id) + 1 AS id FROM readings) n,"
                    " generate_series(1, 4)"
                )
            if self._random.random() < 0.2:
                connection.rollback()
            else:
                connection.commit()
                self.committed += 1


def bad_rows(settings: Settings, engine: Engine, patience: float = 180) -> dict[str, int]:
    """Rows that are lost, doubled, wrong or stale, by job, after a last run of each. The writer must be stopped."""
    p = Producer(settings, "soak")
    until = time.monotonic() + patience
    found = {}
    for job in JOBS:
        run_id = enqueued(p, job.name, until)
        while not is_final(engine, run_id):
            assert time.monotonic() < until, f"run {run_id} of {job.name} did not end"
            time.sleep(0.2)
        with engine.connect() as connection:
            found[job.name] = int(connection.exec_driver_sql(_STALE[job.name]).scalar_one())
    p.close()
    return found


def by_watermark(engine: Engine) -> tuple[int, int]:
    """How many runs of `changed` began at a watermark, and of how many."""
    with engine.connect() as connection:
        statement = "SELECT count(compared_from), count(*) FROM scorebeat.runs WHERE job = 'changed'"
        begun, of = connection.exec_driver_sql(statement).one()
        return int(begun), int(of)


def enqueued(p: Producer, job: str, until: float) -> int:
    """A run of the job, as soon as one can be opened."""
    while True:
        try:
            return enqueue(p, Request(job, "soak")).run_id
        except (ScorebeatError, DBAPIError):  # it is not applied yet, a tick's run is open, or the database is away
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def is_final(engine: Engine, run_id: int) -> bool:
    """Whether the run has ended; False while the database is away."""
    try:
        with engine.connect() as connection:
            return runs.get(connection, run_id).state not in ("planning", "running")
    except DBAPIError:
        return False
