"""The limit: plain processes that fetch, predict, ingest and commit, with no ledger and no queue."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from benchmarks.programs import seconds_of
from scorebeat.db.connect.engine import data_connection
from scorebeat.models.artifact import Artifact
from scorebeat.models.formats import registry
from scorebeat.worker.lifecycle.pin import one_math_thread, pin_to_core

TABLE = "limit_predictions"
ROWS = 20_000
"""Rows a batch, as in the measurement that this repeats."""


def create_table(url: str) -> None:
    with data_connection(url) as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {TABLE}")
        cursor.execute(f"CREATE TABLE {TABLE} (id bigint PRIMARY KEY, label text, x float8, y float8, z float8)")
        connection.commit()


def run(url: str, artifact: Artifact, rows: int, processes: int = 2) -> float:
    """Score ids 1 to `rows` of `items`; seconds from the start signal, after the warm-up, to the last commit."""
    create_table(url)
    work = [_Work(url, artifact, range(i * ROWS, rows, processes * ROWS), rows, i) for i in range(processes)]
    return seconds_of(_run, work)


@dataclass(frozen=True)
class _Work:
    url: str
    artifact: Artifact
    starts: range
    rows: int
    core: int


def _run(work: _Work, barrier: Any) -> None:
    one_math_thread()
    pin_to_core(work.core)
    model = registry.load(work.artifact)
    with data_connection(work.url) as connection:
        _batch(connection, model, 0, 0)
        barrier.wait()
        for first in work.starts:
            _batch(connection, model, first + 1, min(first + ROWS, work.rows))
        barrier.wait()


def _batch(connection: Any, model: Any, first: int, last: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT id, a, b, c, d FROM items WHERE id BETWEEN {first} AND {last}")
        table = cursor.fetch_arrow_table()
        connection.commit()
        if not table.num_rows:
            return
        batch = table.combine_chunks().to_batches()[0]
        scored = model.predict(batch.select(["a", "b", "c", "d"]))
        out = pa.table([batch.column(0), *scored.columns], names=["id", *scored.schema.names])
        cursor.adbc_ingest(TABLE, out, mode="append")
        connection.commit()
