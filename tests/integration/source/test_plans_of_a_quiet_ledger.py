"""Statistics from a time without work must not mislead the statements that name a batch.

A large table is analysed rarely: PostgreSQL may believe for weeks that no batch is pending, claimed or open, and that
reading all of them by their small indexes costs less than looking one up.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from scorebeat.db.batch_io import columns
from scorebeat.db.connect.sql import KeyRange
from scorebeat.db.ledger import batches
from scorebeat.db.ledger.batches import Claim
from scorebeat.db.ledger.failures import isolation
from scorebeat.db.ledger.failures.quarantine import RowId
from tests.support.ledger_fixtures import shared_engine
from tests.support.ledger_rows import add_run
from tests.support.query_plans import explaining, plan_of

__all__ = ["shared_engine"]

ROWS = (
    "INSERT INTO scorebeat.batches (run_id, number, queue, state, rows_planned, attempts_left, first_key, last_key,"
    " claim_expires_at, finished_at) SELECT {run}, n, 'cpu', '{state}', 10, 5, '[\"1\"]', '[\"10\"]',"
    " CASE WHEN '{state}' = 'claimed' THEN now() + interval '1 hour' END,"
    " CASE WHEN '{state}' = 'committed' THEN now() END FROM generate_series({first}, {last}) AS n"
)
HELD = Claim(10_500, 2, 1, 4, 10, KeyRange(("1",), ("10",)), None)
A_MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def engine(shared_engine: Engine) -> Iterator[Engine]:
    """10,000 finished batches, analysed; then 2,000 of another run became pending and 1,000 were claimed."""
    with shared_engine.begin() as connection:
        old = add_run(connection, "succeeded")
        connection.exec_driver_sql(ROWS.format(run=old, state="committed", first=1, last=10_000))
        connection.exec_driver_sql("ANALYZE scorebeat.runs, scorebeat.batches")
        run = add_run(connection)
        connection.exec_driver_sql(ROWS.format(run=run, state="pending", first=1, last=2_000))
        connection.exec_driver_sql(ROWS.format(run=run, state="claimed", first=2_001, last=3_000))
    with explaining(shared_engine) as made:
        yield made


OF_ONE: dict[str, Callable[[Connection], Any]] = {
    "claim": lambda c: batches.claim(c, 10_500, "w1", A_MINUTE),
    "renew": lambda c: batches.renew(c, [12_500, 12_501], "w1", A_MINUTE),
    "fence of a commit": lambda c: c.exec_driver_sql(columns._fence(HELD)),
    "fail": lambda c: batches.fail(c, HELD, "Broken: oh", A_MINUTE),
    "postpone": lambda c: batches.postpone(c, HELD, "later", A_MINUTE),
    "kill": lambda c: batches.kill(c, HELD, "Broken: oh"),
    "fail_lost": lambda c: batches.fail_lost(c, 12_500, "w1", 41, "Broken: oh"),
    "probe": lambda c: isolation.probe(c, HELD, RowId(("1",))),
}


@pytest.mark.parametrize("statement", OF_ONE)
def test_a_statement_that_names_a_batch_looks_up_no_other(engine: Engine, statement: str) -> None:
    plan = plan_of(engine, OF_ONE[statement])

    assert "using batches_pkey" in plan
    assert "Seq Scan on batches" not in plan
    for others in ("batches_pending", "batches_open", "batches_expiry", "runs_one_open"):
        assert others not in plan, plan
