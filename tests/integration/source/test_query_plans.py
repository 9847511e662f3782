"""The statements that run all the time keep their plans: by index, however large the tables grow."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from scorebeat.core.jobs.job import Job
from scorebeat.db.closing import run_ends
from scorebeat.db.connect.sql import Key, KeyRange
from scorebeat.db.ledger import batches, outbox
from scorebeat.db.source import source
from scorebeat.db.source.selection.pending import PendingRows
from tests.support.ledger_fixtures import FILL, ITEMS, shared_engine
from tests.support.ledger_rows import a_job, add_run
from tests.support.query_plans import explaining, plan_of

__all__ = ["shared_engine"]

MANY_BATCHES = (
    "INSERT INTO scorebeat.batches (run_id, number, queue, state, rows_planned, attempts_left, first_key, last_key,"
    " claim_expires_at, finished_at)"
    " SELECT {run}, n, 'cpu', s, 10, 5, '[\"1\"]', '[\"10\"]',"
    " CASE WHEN s = 'claimed' THEN now() + interval '1 hour' END, CASE WHEN s = 'committed' THEN now() END"
    " FROM (SELECT n, CASE WHEN n % 50 = 0 THEN 'pending' WHEN n % 500 = 1 THEN 'claimed' ELSE 'committed' END AS s"
    " FROM generate_series(1, 50000) AS n) AS made"
)


@pytest.fixture(scope="module")
def engine(shared_engine: Engine) -> Iterator[Engine]:
    """50,000 batches, 50,000 items, nearly all with a prediction."""
    with shared_engine.begin() as connection:
        connection.exec_driver_sql(MANY_BATCHES.format(run=add_run(connection)))
        connection.exec_driver_sql(ITEMS)
        connection.exec_driver_sql(FILL.format(first=1, last=50_000))
        _copy(connection, "pairs", "k, id", "SELECT id % 7 AS k, id, a, b FROM items")
        for name, keys in (("items", "id"), ("pairs", "k, id")):
            scored = f"SELECT {keys}, a AS p, 1 AS batch_id FROM {name} WHERE id % 9 > 0"
            _copy(connection, f"predictions.of_{name}", keys, scored)
        connection.exec_driver_sql("ANALYZE")
    with explaining(shared_engine) as made:
        yield made


def _copy(connection: Connection, name: str, keys: str, query: str) -> None:
    connection.exec_driver_sql(f"CREATE TABLE {name} AS {query}")
    connection.exec_driver_sql(f"ALTER TABLE {name} ADD PRIMARY KEY ({keys})")


def test_a_claim_finds_its_batch_by_primary_key(engine: Engine) -> None:
    plan = plan_of(engine, lambda c: batches.claim(c, 500, "w1", timedelta(minutes=1)))

    assert "Index Scan using batches_pkey" in plan
    assert "Seq Scan on batches" not in plan


def test_dispatch_reads_open_batches_only(engine: Engine) -> None:
    plan = plan_of(engine, lambda c: outbox.mark_sent(c, "cpu", 1000))

    assert re.search("Index Scan using batches_(pending|open)", plan)  # whichever is smaller; neither has finished ones
    assert "Seq Scan on batches" not in plan


STATEMENTS: dict[str, Callable[[Connection], Any]] = {
    "rescue": batches.rescue,
    "renew": lambda c: batches.renew(c, [501, 1001], "w1", timedelta(minutes=1)),
    "waiting_queues": outbox.waiting_queues,
    "unmark_lost": lambda c: outbox.unmark_lost(c, "cpu", timedelta(minutes=1)),
    "is_settled": lambda c: run_ends.is_settled(c, 1),
    "settling": run_ends.settling,
    "cancel": lambda c: batches.cancel(c, 1),
}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_the_statements_of_each_second_read_open_batches_only(engine: Engine, statement: str) -> None:
    plan = plan_of(engine, STATEMENTS[statement])

    assert re.search("using batches_(open|pending|expiry|pkey)", plan)
    assert "Seq Scan on batches" not in plan


def test_rescue_reads_claims_by_their_expiry(engine: Engine) -> None:
    assert "batches_expiry" in plan_of(engine, batches.rescue)


def fetch_plan(shared_engine: Engine, job: Job, span: KeyRange, listed: tuple[Key, ...] | None = None) -> str:
    """The plan of a batch's fetch, in a session with the settings that a worker's has."""
    url = shared_engine.url.render_as_string(hide_password=False)
    with shared_engine.connect() as connection:
        found = source.describe(connection, url, job)
    table = "predictions.of_pairs" if len(job.key) > 1 else "predictions.of_items"
    statement = PendingRows(found, table, 1).batch(("a", "b"), span, 501, anti_join=True, listed=listed)
    with shared_engine.connect() as connection:
        return "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement}"))


@pytest.mark.usefixtures("engine")
def test_a_batch_is_fetched_by_its_range_on_both_sides_of_the_anti_join(shared_engine: Engine) -> None:
    plan = fetch_plan(shared_engine, a_job(), KeyRange(("25000",), ("25500",)))

    ranges = "((id >= '25000'::bigint) AND (id <= '25500'::bigint))"
    assert "Index Scan using items_pkey" in plan
    assert "using of_items_pkey" in plan
    assert plan.count(ranges) == 2
    assert "Seq Scan on" not in plan.replace("Seq Scan on quarantine", "")


@pytest.mark.usefixtures("engine")
def test_a_batch_of_a_compound_key_is_fetched_by_its_range_too(shared_engine: Engine) -> None:
    job = a_job(query="SELECT k, id, a, b FROM pairs", key=("k", "id"))

    plan = fetch_plan(shared_engine, job, KeyRange(("3", "25000"), ("3", "28500")))

    assert "pairs_pkey" in plan
    assert "of_pairs_pkey" in plan
    assert plan.count("ROW(") >= 4
    assert "Seq Scan on" not in plan.replace("Seq Scan on quarantine", "")


@pytest.mark.usefixtures("engine")
def test_a_list_of_keys_is_fetched_by_index(shared_engine: Engine) -> None:
    listed = tuple((str(n),) for n in range(9, 49_000, 900))

    plan = fetch_plan(shared_engine, a_job(), KeyRange(listed[0], listed[-1]), listed)

    assert "items_pkey" in plan
    assert "Seq Scan on" not in plan.replace("Seq Scan on quarantine", "")


@pytest.mark.usefixtures("engine")
def test_the_first_keys_of_a_plan_come_before_the_table_is_read(shared_engine: Engine) -> None:
    url = shared_engine.url.render_as_string(hide_password=False)
    with shared_engine.connect() as connection:
        found = source.describe(connection, url, a_job())
        rows = PendingRows(found, "predictions.of_items", 1, has_quarantine=False)
        plan = _declared(connection, rows.key_stream(anti_join=True))

    assert "Sort" not in plan
    assert "Index Only Scan using items_pkey" in plan


def _declared(connection: Connection, statement: str) -> str:
    """As a cursor is planned: for its first rows soon."""
    found = connection.exec_driver_sql(f"EXPLAIN DECLARE pending NO SCROLL CURSOR FOR {statement}")
    return "\n".join(row[0] for row in found)
