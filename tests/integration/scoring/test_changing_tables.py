"""A table that changes all the time: in the end each prediction is of the last values, and no reader missed one."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from random import Random

import pyarrow as pa
import pytest

from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.db.ledger import batches
from scorebeat.worker.scoring import predict
from scorebeat.worker.scoring.attempt import Attempt
from scorebeat.worker.scoring.runtime import Runtime
from scorebeat.worker.scoring.score import score_batch
from tests.integration.scoring.test_changed_rows import SAME_BATCH, TABLE, watched
from tests.support.poison_fixtures import Points, assert_accounted, points

__all__ = ["points"]

ROWS = 60
STAY = 20
"""Rows with ids up to this are changed and never deleted: each reader must see all of them."""
LOG = """
CREATE TABLE log AS SELECT id, value, scorebeat_changed_at, scored_at FROM {table} WITH NO DATA;
CREATE FUNCTION logged() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO public.log VALUES (old.id, old.value, old.scorebeat_changed_at, old.scored_at); RETURN NULL; END $$;
CREATE TRIGGER logged AFTER DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION logged()
"""
"""What leaves the prediction table, by PostgreSQL's own word."""


class Writer:
    """Inserts, changes and deletes rows at random, a few at a time."""

    def __init__(self, points: Points, random: Random, now: str) -> None:
        self.points, self.random, self.now, self.next_id = points, random, now, ROWS

    def write(self) -> None:
        for _ in range(self.random.randint(1, 4)):
            self.random.choice((self.change, self.change, self.change_many, self.insert, self.delete))()

    def change(self) -> None:
        self.points.sql(
            f"UPDATE points SET x = :x + 0.5, at = {self.now} WHERE id = :id",
            id=self.random.randint(1, self.next_id),
            x=self.random.randint(1, 10**6),
        )

    def change_many(self) -> None:
        first = self.random.randint(1, self.next_id)
        self.points.sql(f"UPDATE points SET x = x + 1, at = {self.now} WHERE id BETWEEN :a AND :a + 9", a=first)

    def insert(self) -> None:
        self.next_id += 1
        self.points.sql(f"INSERT INTO points VALUES (:id, :id + 0.5, {self.now})", id=self.next_id)

    def delete(self) -> None:
        """A row that is deleted may come back with other values."""
        number = self.random.randint(STAY + 1, self.next_id)
        self.points.sql("DELETE FROM points WHERE id = :id", id=number)
        if self.random.random() < 0.5:
            self.points.sql(f"INSERT INTO points VALUES (:id, :id + 7.5, {self.now})", id=number)


@contextmanager
def readers(points: Points, job: Job) -> Iterator[list[int]]:
    """Read all the time how many of the rows that stay are there; the counts that were too low."""
    missing: list[int] = []
    reads = [0]
    over = threading.Event()

    def read() -> None:
        with points.engine.connect() as connection:
            while not over.is_set():
                count = connection.exec_driver_sql(
                    f"SELECT count(*) FROM predictions.{job.name} WHERE id <= {STAY}"
                ).scalar_one()
                connection.rollback()
                reads[0] += 1
                if count != STAY:
                    missing.append(count)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield missing
    finally:
        over.set()
        thread.join()
    assert reads[0] > 10


def lost_and_freed(points: Points, batch_id: int) -> None:
    """A worker claims the batch and is gone; the ledger frees it."""
    with points.engine.begin() as connection:
        if batches.claim(connection, batch_id, "gone", timedelta(0)) is not None:
            batches.rescue(connection)


@pytest.mark.slow
def test_each_prediction_is_of_the_last_values_however_rows_change(
    points: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    churn(points, monkeypatch, "timestamptz", seed=1)


@pytest.mark.wide
@pytest.mark.parametrize(("kind", "seed"), [("timestamp", 2), ("bigint", 3), ("timestamptz", 4)])
def test_so_it_is_with_other_types_and_another_order(
    points: Points, monkeypatch: pytest.MonkeyPatch, kind: str, seed: int
) -> None:
    churn(points, monkeypatch, kind, seed)


def churn(points: Points, monkeypatch: pytest.MonkeyPatch, kind: str, seed: int) -> None:
    """Twelve runs over a table that changes before, between and within their batches; then all that must hold."""
    random = Random(seed)
    job = watched(points, ROWS, kind, keep_history=True, batch_rows=17)
    writer = Writer(points, random, {"bigint": "nextval('versions')"}.get(kind, "clock_timestamp()"))
    points.scored(job)
    for statement in LOG.format(table=TABLE).split(";\n", 1)[0:1]:
        points.sql(statement)
    function, trigger = LOG.format(table=TABLE).split(";\n", 1)[1].rsplit(";\n", 1)
    points.sql(function)
    points.sql(trigger)
    second = Runtime(points.settings, name="w2")
    acts: list[Callable[[], object]] = []
    predict_rows = predict.predict_rows

    def predicting(attempt: Attempt, rows: pa.RecordBatch) -> pa.RecordBatch:
        if random.random() < 0.6:
            writer.write()
        if acts and random.random() < 0.5:
            acts.pop()()
        return predict_rows(attempt, rows)

    monkeypatch.setattr(predict, "predict_rows", predicting)

    with readers(points, job) as missing:
        for _ in range(12):
            writer.write()
            run = points.planned(job)
            for batch_id in points.pending(run):
                if random.random() < 0.3:
                    lost_and_freed(points, batch_id)
                if random.random() < 0.4:  # the same rows in two batches at once
                    (twice,) = points.sql(SAME_BATCH.replace("number + 1", "number + 1000"), id=batch_id)
                    acts.append(lambda twice=twice: score_batch(twice, second))  # type: ignore[misc]
                if random.random() < 0.2:
                    points.sql("UPDATE scorebeat.batches SET care = 1 WHERE id = :id", id=batch_id)
                writer.write()
                points.attempt(batch_id)
            acts.clear()
            assert points.work(run) is RunState.SUCCEEDED
        monkeypatch.setattr(predict, "predict_rows", predict_rows)
        points.scored(job)

    second.close()
    assert points.errors == []
    assert missing == []
    points.sql(f"DELETE FROM {TABLE} p WHERE NOT EXISTS (SELECT FROM points WHERE id = p.id)")
    assert_accounted(points.engine, job, {})
    assert points.batches(points.scored(job)) == []
    assert points.sql("SELECT count(*) > 50 FROM log") == [True]
    columns = "id, value, scorebeat_changed_at, scored_at"
    history = f"SELECT {columns} FROM {TABLE}__history"
    orphans = f"SELECT {columns} FROM log l WHERE NOT EXISTS (SELECT FROM points WHERE id = l.id)"
    assert points.sql(f"SELECT count(*) FROM (({history}) EXCEPT ALL (SELECT {columns} FROM log)) e") == [0]
    # what is in the log alone are the predictions of deleted rows that this test deleted
    assert points.sql(
        f"SELECT count(*) FROM (((SELECT {columns} FROM log) EXCEPT ALL ({history})) EXCEPT ALL ({orphans})) e"
    ) == [0]
    # each prediction held from when it was scored until it was replaced, without a gap
    assert points.sql(
        "SELECT count(*) FROM (SELECT id, scored_at, lag(replaced_at) OVER (PARTITION BY id ORDER BY scored_at) AS was"
        f" FROM (SELECT id, scored_at, replaced_at FROM {TABLE}__history UNION ALL"
        f" SELECT id, scored_at, NULL FROM {TABLE}) a) b WHERE was <> scored_at AND id <= {STAY}"
    ) == [0]
