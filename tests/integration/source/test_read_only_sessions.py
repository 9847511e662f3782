"""A session that began while the database took no writes stays so: a worker replaces it before it fetches."""

from sqlalchemy import make_url

from scorebeat.worker.scoring.score import Outcome, score_batch
from tests.support.poison_fixtures import Points, points

__all__ = ["points"]


def test_rows_are_not_fetched_in_a_session_that_cannot_write_their_predictions(points: Points) -> None:
    points.fill(40)
    points.model({})
    run = points.planned(points.job(batch_rows=20))
    first, second = points.pending(run)
    assert score_batch(first, points.runtime) is Outcome.COMMITTED
    points.runtime.drop_data()
    _freeze(points, "SET default_transaction_read_only = on")
    began_frozen = points.runtime.data
    _freeze(points, "RESET default_transaction_read_only")

    assert score_batch(second, points.runtime) is Outcome.COMMITTED

    assert points.runtime.data is not began_frozen
    assert points.batches(run) == [("committed", 1)] * 2


def _freeze(points: Points, how: str) -> None:
    """ALTER DATABASE, which sessions that are there do not notice; by one that may write whatever is set."""
    name = make_url(points.settings.database()).database
    with points.engine.begin() as connection:
        connection.exec_driver_sql("SET TRANSACTION READ WRITE")
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" {how}')
