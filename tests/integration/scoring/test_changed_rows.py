"""Rows that changed are scored again: each prediction is of the last values that a run read, however they change."""

from typing import Any

import pytest

from scorebeat.core.errors import UsageError
from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.worker.scoring import score
from scorebeat.worker.scoring.score import Outcome, score_batch
from tests.support.poison_fixtures import Points, assert_accounted, points

__all__ = ["points"]

QUERY = "SELECT id, x, at FROM points"
TABLE = "predictions.points_job__poison_v1"
CHANGE = "UPDATE points SET x = :x + 0.5, at = {} WHERE id = :id"
TYPES = {
    "timestamptz": ("timestamptz", "clock_timestamp()"),
    "timestamp": ("timestamp", "clock_timestamp()::timestamp"),
    "bigint": ("bigint", "nextval('versions')"),
}


def watched(points: Points, count: int = 20, kind: str = "timestamptz", **given: Any) -> Job:
    """Points with a column `at` that says when they changed, and a job that follows it; none is scored yet."""
    points.fill(count)
    points.sql("CREATE SEQUENCE versions")
    points.sql(f"ALTER TABLE points ADD COLUMN at {TYPES[kind][0]} DEFAULT {TYPES[kind][1]}")
    points.model({})
    return points.job(**{"query": QUERY, "changed_at": "at", **given})


def change(points: Points, number: int, x: float, now: str = "clock_timestamp()") -> None:
    points.sql(CHANGE.format(now), id=number, x=x)


def values(points: Points) -> dict[int, float]:
    return dict(points.sql(f"SELECT id, value FROM {TABLE}"))


@pytest.mark.parametrize("kind", TYPES)
def test_a_row_that_changed_is_scored_again_and_no_other_is(points: Points, kind: str) -> None:
    job = watched(points, kind=kind)
    first = points.scored(job)
    change(points, 7, 70, TYPES[kind][1])
    points.sql("INSERT INTO points (id, x) VALUES (21, 21.5)")

    second = points.scored(job)

    assert points.errors == []
    assert (points.batches(first, "rows_scored"), points.batches(second, "rows_scored")) == ([20], [2])
    assert_accounted(points.engine, job, {})
    assert points.batches(points.scored(job), "rows_scored") == []
    assert points.sql(f"SELECT count(*) FROM {TABLE} t JOIN points p USING (id) WHERE t.scorebeat_changed_at = p.at") == [21]
