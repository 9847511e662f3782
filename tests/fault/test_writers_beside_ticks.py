"""Ticks beside writers whose transactions stay open, roll back or are prepared: no committed row is missed."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import psycopg2.errors
import pytest

from scorebeat.core.jobs.job import Job
from tests.support.poison_fixtures import Points, points

pytestmark = pytest.mark.slow

__all__ = ["points"]

FIRST = 5_000
WRITERS = 6
ENDS = ["commit", "commit", "commit", "rollback", "prepare"]
COUNT = "SELECT count(*) FROM scorebeat.runs WHERE compared_from IS NOT NULL"
MOVED = "SELECT count(DISTINCT watermark) FROM scorebeat.runs"
STALE = (
    "SELECT p.id FROM {rows} p LEFT JOIN {table} t USING (id) WHERE t.id IS NULL OR t.value <> 2 * p.x"
    " UNION ALL SELECT t.id FROM {table} t LEFT JOIN {rows} p USING (id) WHERE p.id IS NULL"
)


class Writer(threading.Thread):
    """A session that changes and adds rows in transactions of up to some seconds."""

    def __init__(self, url: str, number: int, *, updates: bool, longest: float) -> None:
        super().__init__(name=f"writer-{number}")
        self._url, self._number, self._updates, self._longest = url, number, updates, longest
        self._random = random.Random(number)
        self.stopped = threading.Event()
        self.error: BaseException | None = None
        self.ended = dict.fromkeys(ENDS, 0)

    def run(self) -> None:
        try:
            connection = psycopg2.connect(self._url)
            while not self.stopped.is_set():
                self._transaction(connection)
            connection.close()
        except BaseException as error:  # noqa: BLE001 -- the test raises it
            self.error = error

    def _transaction(self, connection: Any) -> None:
        end = self._random.choice(ENDS if self._number == 0 else ENDS[:-1])
        name = f"w{self._number}-{time.monotonic_ns()}"
        if end == "prepare":
            connection.tpc_begin(connection.xid(1, name, "points"))
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")  # the transaction begins, and with it now()
            self._wait()
            self._write(cursor)
            self._wait()
        if end == "prepare":
            connection.tpc_prepare()
            self._wait()
            connection.tpc_commit()
        elif end == "commit":
            connection.commit()
        else:
            connection.rollback()
        self.ended[end] += 1

    def _write(self, cursor: Any) -> None:
        for _ in range(self._random.randint(1, 40)):
            x = self._random.randint(1, 10**6) + 0.5
            cursor.execute("INSERT INTO points (x) VALUES (%s)", (x,))
        if self._updates:  # of its own rows, so that no writer waits for another
            cursor.execute(
                "UPDATE points SET x = floor(random() * 1e6) + 0.5, at = clock_timestamp() WHERE id IN"
                " (SELECT id FROM points WHERE id %% %s = %s ORDER BY random() LIMIT %s)",
                (WRITERS, self._number, self._random.randint(1, 60)),
            )

    def _wait(self) -> None:
        self.stopped.wait(self._random.choice([0, 0, 0.01, 0.1, self._longest]))


@contextmanager
def writers(url: str, *, updates: bool, longest: float) -> Iterator[list[Writer]]:
    running = [Writer(url, number, updates=updates, longest=longest) for number in range(WRITERS)]
    for writer in running:
        writer.start()
    try:
        yield running
    finally:
        for writer in running:
            writer.stopped.set()
        for writer in running:
            writer.join()


def followed(points: Points, **options: Any) -> Job:
    points.sql("CREATE TABLE points (id bigserial PRIMARY KEY, x float8, at timestamptz DEFAULT now())")
    points.sql("INSERT INTO points (x) SELECT i + 0.5 FROM generate_series(1, :count) i", count=FIRST)
    points.sql("CREATE INDEX ON points (at)")
    points.model({})
    return points.job(**{"query": "SELECT id, x, at FROM points", **options})


JOBS = {"changed": {"changed_at": "at"}, "only grows": {"cursor": "id"}, "inserted at": {"cursor": "at"}}


def tick_beside_writers(points: Points, options: dict[str, Any], ticks: int, longest: float) -> None:
    job = followed(points, **options)
    for _ in range(3):
        points.scored(job)
        time.sleep(1)
    before = points.sql(COUNT)[0]
    with writers(points.producer.url, updates="changed_at" in options, longest=longest) as running:
        for number in range(3 * ticks):  # a watermark of numbers follows two transactions behind: fast ticks need more
            points.scored(job)
            if number >= ticks and points.sql(MOVED)[0] >= 3:
                break
    assert [writer.error for writer in running] == [None] * WRITERS
    assert all(sum(writer.ended[end] for writer in running) for end in ENDS), "no transaction ended so"
    assert points.sql(MOVED)[0] >= 3, "the watermark stood still"

    points.scored(job)
    points.scored(job)

    by_watermark = points.sql(COUNT)[0] - before
    assert by_watermark >= ticks * 0.9, f"only {by_watermark} of {ticks} ticks began at a watermark"
    assert points.sql(STALE.format(rows="points", table="predictions.points_job__poison_v1")) == []
    assert points.errors == []
    assert points.sql("SELECT sum(rows_scored) FROM scorebeat.batches")[0] > FIRST


@pytest.mark.parametrize(
    "options", [pytest.param(JOBS[name], id=name, marks=[] if name == "changed" else pytest.mark.wide) for name in JOBS]
)
def test_no_committed_row_is_missed_by_ticks_beside_writers(points: Points, options: dict[str, Any]) -> None:
    tick_beside_writers(points, options, ticks=60, longest=3.5)


@pytest.mark.wide
@pytest.mark.parametrize("options", JOBS.values(), ids=JOBS)
def test_no_committed_row_is_missed_in_a_thousand_ticks(points: Points, options: dict[str, Any]) -> None:
    tick_beside_writers(points, options, ticks=1000, longest=5.0)
