"""A run's plan stays the same, however often a part of it is requeued."""

from scorebeat.core.states import RunState
from scorebeat.db.reports import status
from scorebeat.db.reports.pages import run_pages
from scorebeat.producer.requests.requeue import requeue
from tests.support.poison_fixtures import Points, assert_accounted, points

__all__ = ["points"]


def planned_and_scored(points: Points, run: int) -> list[tuple[int, int]]:
    """Of the run as pages, `watch` and the view `run_status` sum it up."""
    (seen,) = points.sql("SELECT rows_planned, rows_scored FROM scorebeat.run_status WHERE id = :run", run=run)
    with points.engine.connect() as connection:
        line = status.get(connection, run)
        (listed,) = (one for one in run_pages.runs(connection) if one.id == run)
    return [seen, *((one.rows_planned, one.rows_scored) for one in (line, listed))]


def test_rows_that_went_to_another_batch_are_planned_once_despite_requeues(points: Points) -> None:
    points.fill(100)
    points.model({"raise": [1, 2, 5, 50, 95], "nan": [6]})
    job = points.job(batch_rows=2)
    run = points.scored(job)
    first = points.batches(run, "id")[0]

    requeue(points.producer, run, "ann", batch_id=first)
    points.work(run)
    requeue(points.producer, run, "ann", error="NonsenseError")
    points.work(run)
    requeue(points.producer, run, "ann")
    points.work(run)
    assert planned_and_scored(points, run) == [(100, 94)] * 3
    assert points.batches(run, "rows_planned, rows_failed")[0] == (0, 0)
    points.mend()
    requeue(points.producer, run, "ann")

    assert points.work(run) is RunState.SUCCEEDED
    assert planned_and_scored(points, run) == [(100, 100)] * 3
    assert_accounted(points.engine, job, {})


def test_rows_that_their_own_batch_fetches_again_stay_planned_there(points: Points) -> None:
    points.fill(100)
    points.model({"raise": [5]})
    job = points.job(batch_rows=50)
    run = points.scored(job)
    points.sql(
        "UPDATE scorebeat.batches SET state = 'dead', error = 'Broken' WHERE run_id = :run AND number = 1", run=run
    )
    points.mend()

    assert requeue(points.producer, run, "ann") == 1

    assert points.batches(run, "state, rows_planned, rows_failed") == [("pending", 50, 0), ("committed", 50, 0)]
    assert points.work(run) is RunState.SUCCEEDED
    assert planned_and_scored(points, run) == [(100, 100)] * 3
