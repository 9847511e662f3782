"""What a process remembers of a prediction table is compared at each commit: the driver itself compares no types."""

import pytest

from scorebeat.worker.score import Outcome, score_batch
from tests.poison_fixtures import Points, points

__all__ = ["points"]


def _half_scored(points: Points) -> tuple[int, str, list[int]]:
    """A run, its prediction table, and the batches that are left after the first one was scored."""
    points.sql("CREATE TABLE points (id int PRIMARY KEY, x float8)")
    points.sql("INSERT INTO points SELECT i, i + 0.5 FROM generate_series(1, 60) i")
    points.model({})
    run = points.planned(points.job(batch_rows=20))
    first, *rest = points.pending(run)
    assert score_batch(first, points.runtime) is Outcome.COMMITTED
    points.sql("DROP VIEW predictions.points_job CASCADE")  # PostgreSQL changes no column that a view shows
    (name,) = points.sql("SELECT table_name FROM scorebeat.prediction_sets")
    return run, f'predictions."{name}"', rest


def test_a_key_that_became_wider_between_two_batches_is_written_as_it_is_now(points: Points) -> None:
    run, table, rest = _half_scored(points)
    before = points.sql(f"SELECT id, value FROM {table} ORDER BY id")

    points.sql(f"ALTER TABLE {table} ALTER COLUMN id TYPE bigint")

    assert [score_batch(batch, points.runtime) for batch in rest] == [Outcome.COMMITTED] * 2
    after = points.sql(f"SELECT id, value FROM {table} ORDER BY id")
    assert [key for key, _ in after] == list(range(1, 61))
    assert after[:20] == before
    assert points.sql("SELECT state FROM scorebeat.runs WHERE id = :id", id=run) == ["succeeded"]


@pytest.mark.parametrize(
    "change",
    [
        "ALTER COLUMN value TYPE bigint USING 1",
        "ALTER COLUMN value TYPE text",
        "DROP COLUMN value, ADD COLUMN value bigint",
    ],
)
def test_a_column_of_another_type_takes_no_bytes_that_were_made_for_the_one_before(points: Points, change: str) -> None:
    _, table, rest = _half_scored(points)

    points.sql(f"ALTER TABLE {table} {change}")
    points.attempt(rest[0])

    assert len(points.errors) == 1
    assert "predictions do not fit" in points.errors[0]
    assert "Nothing was written" in points.errors[0]
    assert points.sql(f"SELECT count(*) FROM {table}") == [20]
