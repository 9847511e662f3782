"""A run with `snapshot = true` computes its query once, and scores the rows that it stored then."""

import pytest

from tests.support.ledger_fixtures import FILL, OUTPUTS, Ledger, ledger, trained
from tests.support.ledger_rows import a_job

__all__ = ["ledger", "trained"]

QUERIES = {
    "aggregates": "SELECT id / 3 AS id, avg(a) AS a, avg(b) AS b FROM items GROUP BY 1",
    "DISTINCT": "SELECT DISTINCT id % 40 AS id, 4 + id % 40 / 10.0::float8 AS a, 3.0::float8 AS b FROM items",
    "a window over all rows": "SELECT id, a, avg(b) OVER (ORDER BY a, id) AS b FROM items",
    "a CTE": (
        "WITH means AS (SELECT id % 7 AS place, avg(b) AS b FROM items GROUP BY 1)"
        " SELECT i.id, i.a, m.b FROM items i JOIN means m ON m.place = i.id % 7"
    ),
    "a union": "SELECT id, a, b FROM items WHERE id <= 40 UNION ALL SELECT id + 1000, b, a FROM items WHERE id > 40",
    "volatile functions": "SELECT id, 4 + random() * 4 AS a, 2 + random() AS b FROM items ORDER BY random() LIMIT 57",
    "no index on the key": "SELECT (id * 7919) % 1000003 AS id, a, b FROM items",
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_any_query_gives_each_row_that_was_stored_the_prediction_of_a_plain_loop(ledger: Ledger, query: str) -> None:
    ledger.sql(FILL.format(first=1, last=100))
    job = a_job(query=query, snapshot=True)

    run_id = ledger.planned(job)
    ledger.sql(f"CREATE TABLE as_planned AS SELECT * FROM scorebeat_work.run_{run_id}")
    ledger.score(run_id)

    assert ledger.run(run_id).state == "succeeded"
    rows = ledger.check_exact("SELECT * FROM as_planned", ledger.target(run_id).table, "id")
    assert rows == ledger.run(run_id).snapshot_rows > 10
