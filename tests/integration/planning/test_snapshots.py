"""A run with `snapshot = true` computes its query once, and scores the rows that it stored then."""

from datetime import UTC, datetime

import pytest

from scorebeat.core.errors import QueryError
from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.db.ledger.runs import Selection
from scorebeat.producer.control.plan import plan
from scorebeat.producer.control.upkeep import snapshots
from scorebeat.producer.control.upkeep.settle import settle_all
from scorebeat.producer.requests.requeue import cancel
from tests.support.ledger_fixtures import FILL, Ledger, ledger, trained
from tests.support.ledger_rows import a_job

pytestmark = pytest.mark.wide(slow=2, quick=4)

__all__ = ["ledger", "trained"]

GROUPED = "SELECT id / 3 AS id, avg(a) AS a, avg(b) AS b FROM items GROUP BY 1"
QUERIES = {
    "aggregates": GROUPED,
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
TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'scorebeat_work'::regnamespace AND relkind = 'r'"


def fill(ledger: Ledger, last: int, first: int = 1) -> None:
    ledger.sql(FILL.format(first=first, last=last))


def keep(ledger: Ledger, run_id: int) -> str:
    """A copy of the snapshot, for the plain loop; returns the query of its rows."""
    ledger.sql("DROP TABLE IF EXISTS as_planned")
    ledger.sql(f"CREATE TABLE as_planned AS SELECT * FROM scorebeat_work.run_{run_id}")
    return "SELECT * FROM as_planned"


def stored(ledger: Ledger, run_id: int) -> list[int]:
    return ledger.sql(f"SELECT id FROM scorebeat_work.run_{run_id} ORDER BY scorebeat_row")


@pytest.mark.wide(quick=5)
@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_any_query_gives_each_row_that_was_stored_the_prediction_of_a_plain_loop(ledger: Ledger, query: str) -> None:
    fill(ledger, 100)
    run_id = ledger.planned(a_job(query=query, snapshot=True))
    planned = keep(ledger, run_id)

    ledger.score(run_id)

    assert ledger.run(run_id).state is RunState.SUCCEEDED
    rows = ledger.check_exact(planned, ledger.target(run_id).table, "id")
    assert rows == ledger.run(run_id).snapshot_rows
    assert rows > 10


@pytest.mark.quick
def test_a_change_in_the_tables_after_the_plan_changes_nothing_of_the_run(ledger: Ledger) -> None:
    fill(ledger, 100)
    ledger.sql("CREATE TABLE before AS SELECT * FROM items")
    run_id = ledger.planned(a_job(snapshot=True))

    ledger.score_one(ledger.batch_ids(run_id)[0])
    ledger.sql("UPDATE items SET a = a + 1")
    ledger.sql("DELETE FROM items WHERE id % 3 = 0")
    fill(ledger, 110, first=101)
    ledger.score(run_id)

    assert ledger.check_exact("SELECT * FROM before", ledger.target(run_id).table, "id") == 100


def test_rows_that_change_while_no_batch_has_begun_are_scored_as_they_were(ledger: Ledger) -> None:
    fill(ledger, 30)
    ledger.sql("CREATE TABLE before AS SELECT * FROM items")
    run_id = ledger.planned(a_job(snapshot=True))

    ledger.sql("DROP TABLE items")
    ledger.score(run_id)

    assert ledger.run(run_id).state is RunState.SUCCEEDED
    assert ledger.check_exact("SELECT * FROM before", ledger.target(run_id).table, "id") == 30


def test_pending_rows_are_stored_in_key_order_in_a_logged_table(ledger: Ledger) -> None:
    fill(ledger, 30)
    ledger.scored(a_job(snapshot=True))
    fill(ledger, 45, first=31)

    run_id = ledger.planned(a_job(snapshot=True))

    assert stored(ledger, run_id) == list(range(31, 46))
    assert ledger.sql(f"SELECT scorebeat_row FROM scorebeat_work.run_{run_id} ORDER BY 1") == list(range(1, 16))
    spans = ledger.sql(f"SELECT first_row, last_row, rows_planned FROM scorebeat.batches WHERE run_id = {run_id}")
    assert spans == [(1, 10, 10), (11, 15, 5)]
    assert ledger.sql(f"SELECT relpersistence FROM pg_class WHERE relname = 'run_{run_id}'") == ["p"]


def test_a_run_that_finds_no_pending_row_succeeds_and_leaves_no_table(ledger: Ledger) -> None:
    fill(ledger, 5)
    ledger.scored(a_job(snapshot=True))

    again = ledger.planned(a_job(snapshot=True))
    snapshots.drop_unneeded(ledger.producer)

    assert ledger.run(again).state is RunState.SUCCEEDED
    assert ledger.run(again).snapshot_rows == 0
    assert ledger.sql(TABLES) == []


def test_each_run_of_an_every_run_job_stores_all_rows(ledger: Ledger) -> None:
    fill(ledger, 20)
    job = a_job(query=GROUPED, snapshot=True, rescore="every-run")
    ledger.scored(job)
    ledger.sql("UPDATE items SET a = a + 1")

    again = ledger.scored(job)

    assert ledger.run(again).snapshot_rows == 7
    assert ledger.check_exact(GROUPED, "predictions.flowers_job", "id") == 7


@pytest.mark.parametrize(
    ("selection", "wanted"),
    [
        (Selection(limit=3), [0, 1, 2]),
        (Selection(where="a > 4.5 AND id < 9 -- some"), [2, 3, 4, 5, 6, 7, 8]),
        (Selection(keys=(("7",), ("2",), ("999",))), [2, 7]),
    ],
    ids=["limit", "where", "keys"],
)
def test_rows_that_enqueue_selects_are_stored_and_scored(
    ledger: Ledger, selection: Selection, wanted: list[int]
) -> None:
    fill(ledger, 30)

    run_id = ledger.planned(a_job(query=GROUPED, snapshot=True), selection=selection)
    assert stored(ledger, run_id) == wanted
    ledger.score(run_id)

    assert ledger.run(run_id).state is RunState.SUCCEEDED
    assert ledger.sql(f"SELECT id FROM {ledger.target(run_id).table} ORDER BY id") == wanted


def test_parameters_have_their_values_in_the_snapshot(ledger: Ledger) -> None:
    fill(ledger, 30)
    query = "SELECT id, a, b FROM items WHERE id <= :most AND :due_at = '2026-03-01 00:00:00+00'::timestamptz"
    job = Job.model_validate({**a_job(query=query, snapshot=True).model_dump(), "parameters": {"most": 12}})

    run_id = ledger.planned(job, due_at=datetime(2026, 3, 1, tzinfo=UTC))

    assert stored(ledger, run_id) == list(range(1, 13))


@pytest.mark.quick
@pytest.mark.parametrize(
    ("key", "message"), [("nullif(id, 7)", "(NULL) 1 times"), ("id / 2", "(1) 2 times")], ids=["NULL", "repeated"]
)
def test_keys_that_are_null_or_repeat_fail_the_run_and_leave_no_table(ledger: Ledger, key: str, message: str) -> None:
    fill(ledger, 3 if "/" in key else 10)

    run_id = ledger.planned(a_job(query=f"SELECT {key} AS id, a, b FROM items", snapshot=True))

    assert ledger.run(run_id).state is RunState.FAILED
    wanted = f"jobs.flowers_job.key must be unique and not NULL; the query gives {message}."
    assert wanted in str(ledger.run(run_id).reason)
    assert ledger.sql(TABLES) == []


WRITERS = {
    "a function that writes": "SELECT id, a, b + written(id) AS b FROM items",
    "a sequence": "SELECT id, a, b + 0 * nextval('numbers') AS b FROM items",
    "a setting that would let it write": (
        "SELECT id, a, b + written(id) AS b FROM items WHERE set_config('transaction_read_only', 'off', true) = 'off'"
    ),
}


@pytest.mark.quick
@pytest.mark.parametrize("query", WRITERS.values(), ids=WRITERS)
def test_a_query_that_is_stored_writes_nothing_itself(ledger: Ledger, query: str) -> None:
    fill(ledger, 5)
    ledger.sql("CREATE TABLE written (id bigint)")
    ledger.sql("CREATE SEQUENCE numbers")
    ledger.sql(
        "CREATE FUNCTION written(bigint) RETURNS int LANGUAGE sql AS 'INSERT INTO written VALUES ($1) RETURNING 0'"
    )

    run_id = ledger.planned(a_job(query=query, snapshot=True))

    assert ledger.run(run_id).state is RunState.FAILED
    assert "read-only transaction" in str(ledger.run(run_id).reason) or "before any query" in str(
        ledger.run(run_id).reason
    )
    assert ledger.sql("SELECT count(*) FROM written") == [0]
    assert ledger.sql("SELECT is_called FROM numbers") == [False]
    assert ledger.sql(TABLES) == []


def test_a_query_that_ends_as_our_own_function_does_is_not_taken_for_whole(ledger: Ledger) -> None:
    fill(ledger, 100)
    ledger.sql(
        "CREATE FUNCTION half(bigint) RETURNS int LANGUAGE plpgsql AS"
        " $$BEGIN IF $1 = 50 THEN RAISE EXCEPTION USING ERRCODE = 'SB001'; END IF; RETURN 0; END$$"
    )

    run_id = ledger.planned(a_job(query="SELECT id, a, b + half(id) AS b FROM items", snapshot=True))

    assert ledger.run(run_id).state is RunState.FAILED
    assert ledger.batch_ids(run_id) == []


def test_several_statements_are_refused_and_run_none(ledger: Ledger) -> None:
    fill(ledger, 5)
    job = a_job(query="SELECT id, a, b FROM items) AS q; DROP TABLE items; SELECT * FROM (SELECT 1", snapshot=True)

    with pytest.raises(QueryError):
        ledger.planned(job)

    assert ledger.sql("SELECT count(*) FROM items") == [5]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT id, a, b, b AS a FROM items", "returns column 'a' twice"),
        ("SELECT id AS scorebeat_row, a, b FROM items", "returns a column scorebeat_row"),
    ],
)
def test_names_that_a_snapshot_cannot_have_are_refused(ledger: Ledger, query: str, message: str) -> None:
    key = "scorebeat_row" if "scorebeat_row" in query else "id"

    with pytest.raises(QueryError, match=message):
        ledger.enqueue(a_job(query=query, key=key, snapshot=True))


def test_columns_that_the_model_does_not_read_are_not_stored_however_many_they_are(ledger: Ledger) -> None:
    fill(ledger, 3)
    many = ", ".join(f"{n} AS c{n}" for n in range(1_650))

    run_id = ledger.scored(a_job(query=f"SELECT id, a, b, {many} FROM items", snapshot=True))

    assert ledger.sql(
        f"SELECT attname FROM pg_attribute WHERE attrelid = 'scorebeat_work.run_{run_id}'::regclass AND attnum > 0"
    ) == ["scorebeat_row", "id", "a", "b"]


@pytest.mark.quick
def test_a_planner_that_lost_its_lease_changes_nothing(ledger: Ledger) -> None:
    fill(ledger, 30)
    run_id = ledger.enqueue(a_job(snapshot=True))
    late = ledger.run(run_id)
    ledger.sql("UPDATE scorebeat.runs SET plan_attempt = 1, planned_by = 'late'")
    ledger.sql("UPDATE scorebeat.runs SET plan_expires_at = now() - interval '1 s'")

    assert plan(ledger.producer, run_id) == 3
    before = keep(ledger, run_id)
    ledger.sql("UPDATE items SET a = 0")
    with pytest.raises(Exception, match="planning attempt 1 lost its lease"):
        snapshots.plan(ledger.producer, late, attempt=1)

    assert sorted(ledger.sql(TABLES)) == [f"run_{run_id}", f"run_{run_id}_1"]
    assert snapshots.drop_unneeded(ledger.producer) == 1
    ledger.score(run_id)
    assert ledger.check_exact(before, ledger.target(run_id).table, "id") == 30


LOSSES = {
    "truncated": "TRUNCATE scorebeat_work.run_{0}",
    "without a row": "DELETE FROM scorebeat_work.run_{0} WHERE scorebeat_row = 17",
    "dropped": "DROP TABLE scorebeat_work.run_{0}",
    "without an input": "ALTER TABLE scorebeat_work.run_{0} DROP COLUMN a",
    "without the key": "ALTER TABLE scorebeat_work.run_{0} RENAME id TO other",
    "without numbers": "ALTER TABLE scorebeat_work.run_{0} DROP COLUMN scorebeat_row",
}


@pytest.mark.wide(quick=6)
@pytest.mark.parametrize("is_known", [False, True], ids=["before", "in the middle"])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_snapshot_that_lost_rows_fails_their_batches_with_what_to_do(
    ledger: Ledger, loss: str, *, is_known: bool
) -> None:
    fill(ledger, 20)
    run_id = ledger.planned(a_job(snapshot=True))
    first, second = ledger.batch_ids(run_id)
    if is_known:
        ledger.score_one(first)

    ledger.sql(loss.format(run_id))
    with pytest.raises(Exception, match=f"the snapshot of run {run_id}"):
        ledger.score_one(second)

    lost = ledger.batch(second)
    assert (lost["state"], lost["rows_scored"]) == ("dead", 0)
    assert "`scorebeat enqueue flowers_job` scores the rows that are pending" in lost["error"]
    assert ledger.sql(f"SELECT count(*) FROM {ledger.target(run_id).table} WHERE id > 10") == [0]


def test_a_snapshot_is_dropped_once_its_run_has_succeeded_and_not_before(ledger: Ledger) -> None:
    fill(ledger, 20)
    run_id = ledger.planned(a_job(snapshot=True))

    assert snapshots.drop_unneeded(ledger.producer) == 0
    ledger.score(run_id)
    assert snapshots.drop_unneeded(ledger.producer) == 1

    assert ledger.sql(TABLES) == []


def test_a_cancelled_runs_snapshot_is_dropped(ledger: Ledger) -> None:
    fill(ledger, 20)
    run_id = ledger.planned(a_job(snapshot=True))

    cancel(ledger.producer, run_id, "ann")
    snapshots.drop_unneeded(ledger.producer)
    settle_all(ledger.producer)

    assert ledger.sql(TABLES) == []


def test_a_table_of_somebody_elses_in_the_schema_is_left_alone(ledger: Ledger) -> None:
    ledger.sql("CREATE TABLE scorebeat_work.mine AS SELECT 1 AS x")
    ledger.sql("CREATE VIEW scorebeat_work.run_1 AS SELECT 1 AS x")

    assert snapshots.drop_unneeded(ledger.producer) == 0

    assert ledger.sql(TABLES) == ["mine"]
