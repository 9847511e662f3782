"""The limit: plain processes that fetch, predict, ingest and commit, with no ledger and no queue."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from benchmarks.programs import seconds_of
from scorebeat.db.connect.engine import data_connection
from scorebeat.models.artifact import Artifact
from scorebeat.models.formats import registry
from scorebeat.models.store.cache import HOME
from scorebeat.worker.lifecycle.devices.pin import one_math_thread, pin_to_core

TABLE = "limit_predictions"


@dataclass(frozen=True)
class Job:
    """What is read, and where it goes."""

    query: str
    """Rows of the ids from `{first}` to `{last}`, the id first."""
    outputs: str
    """The columns of the predictions, with their types."""
    batch_rows: int
    """Ids a batch."""


ITEMS = Job("SELECT id, a, b, c, d FROM items WHERE id BETWEEN {first} AND {last}",
            "label text, x float8, y float8, z float8", 20_000)  # fmt: skip
"""The rows a batch are those of the measurement that this repeats."""


def create_table(url: str, job: Job = ITEMS) -> None:
    with data_connection(url) as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {TABLE}")
        cursor.execute(f"CREATE TABLE {TABLE} (id bigint PRIMARY KEY, {job.outputs})")
        connection.commit()


def run(url: str, artifact: Artifact, rows: int, processes: int = 2, job: Job = ITEMS) -> float:
    """Score the ids 1 to `rows`; seconds from the start signal, after the warm-up, to the last commit."""
    create_table(url, job)
    step = job.batch_rows
    work = [
        _Work(url, artifact, job, range(i * step, rows, processes * step), rows, i, artifact.engine.engine)
        for i in range(processes)
    ]
    return seconds_of(_run, work)


@dataclass(frozen=True)
class _Work:
    url: str
    artifact: Artifact
    job: Job
    starts: range
    rows: int
    core: int
    engine: str


def _run(work: _Work, barrier: Any) -> None:
    one_math_thread()
    pin_to_core(work.core)
    model = registry.load(work.artifact, "cpu", work.engine, HOME)
    with data_connection(work.url) as connection:
        _batch(connection, model, work.job, 0, 0)
        barrier.wait()
        for first in work.starts:
            _batch(connection, model, work.job, first + 1, min(first + work.job.batch_rows, work.rows))
        barrier.wait()


def _batch(connection: Any, model: Any, job: Job, first: int, last: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(job.query.format(first=first, last=last))
        table = cursor.fetch_arrow_table()
        connection.commit()
        if not table.num_rows:
            return
        batch = table.combine_chunks().to_batches()[0]
        scored = model.predict(batch.select(batch.schema.names[1:]))
        out = pa.table([batch.column(0), *scored.columns], names=["id", *scored.schema.names])
        cursor.adbc_ingest(TABLE, out, mode="append")
        connection.commit()
