"""How often a worker waits for the database in a batch: what a distance of 100 ms is multiplied by."""

import pyarrow as pa
import pytest
from sqlalchemy import make_url

from scorebeat.core.states import RunState
from scorebeat.db.batch_io import columns
from scorebeat.worker.scoring import predict as predictions
from scorebeat.worker.scoring.attempt import Attempt
from scorebeat.worker.scoring.runtime import Runtime
from tests.support.poison_fixtures import Points, points
from tests.support.proxy import proxy_to

__all__ = ["points"]

BATCHES = 10
MOST = 10
"""Of a batch without faults, the last of a run apart."""


QUERIES = {
    "numbers": "SELECT id, x FROM points",
    "texts": "SELECT id::text AS id, x FROM points",
}


@pytest.mark.slow(quick=2)
@pytest.mark.parametrize("query", QUERIES)
def test_a_batch_costs_few_round_trips(points: Points, query: str) -> None:
    points.fill(BATCHES * 20)
    points.model({})
    run = points.planned(points.job(query=QUERIES[query], batch_rows=20))
    url = make_url(points.settings.database())
    with proxy_to(f"{url.query['host']}/.s.PGSQL.5432") as proxy:
        through = url.set(host="127.0.0.1", port=proxy.port, query={}).render_as_string(hide_password=False)
        points.runtime = Runtime(points.settings.model_copy(update={"database_url": through}), name="w1")
        first, *rest = points.pending(run)
        points.attempt(first)  # connects, reads the run and loads the model
        proxy.round_trips.clear()
        for batch_id in rest[:-1]:
            points.attempt(batch_id)
        statements = [words.decode("latin-1") for words in proxy.round_trips]
        points.attempt(rest[-1])
        points.runtime.close()

    assert points.work(run) is RunState.SUCCEEDED
    assert not points.errors
    assert len(statements) / (BATCHES - 2) <= MOST, "\n".join(statements[-40:])
    between = "".join(statements).split("BEGIN; SELECT id FROM scorebeat.batches")[1:]
    assert len(between) == BATCHES - 2
    # from the fence to the batch's state nothing is committed
    assert all("COMMIT" not in words.partition("UPDATE scorebeat.batches SET rows_scored")[0] for words in between)


@pytest.mark.parametrize("most", [columns.AT_ONCE, 0], ids=["one message", "COPY"])
def test_no_transaction_is_open_while_the_model_predicts(
    points: Points, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    points.fill(20)
    points.model({})
    (batch,) = points.pending(points.planned(points.job(batch_rows=20)))
    monkeypatch.setattr(columns, "AT_ONCE", most)
    predict_rows, seen = predictions.predict_rows, []

    def predicting(attempt: Attempt, rows: pa.RecordBatch) -> pa.RecordBatch:
        seen.extend(
            points.sql(
                "SELECT state, backend_xmin, backend_xid, (SELECT count(*) FROM pg_locks l WHERE l.pid = a.pid)"
                " FROM pg_stat_activity a WHERE application_name LIKE 'scorebeat w1%'"
            )
        )
        return predict_rows(attempt, rows)

    monkeypatch.setattr(predictions, "predict_rows", predicting)
    points.attempt(batch)

    assert not points.errors
    assert seen == [("idle", None, None, 0)] * 2
