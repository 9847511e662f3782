"""A plan cuts the pending rows of its query into batches, whole or not at all, and writes nothing else."""

import re
from datetime import timedelta

import pytest

from scorebeat.core.errors import UsageError
from scorebeat.db.ledger.runs import Selection
from scorebeat.db.source import filters, source
from scorebeat.producer.control import plan as planner
from scorebeat.producer.control.plan import plan
from tests.support.ledger_fixtures import FILL, Ledger, ledger, trained
from tests.support.ledger_rows import a_job

__all__ = ["ledger", "trained"]

MINUTE = timedelta(minutes=1)
EXPIRE = "UPDATE scorebeat.runs SET plan_expires_at = now() - interval '1 s' WHERE state = 'planning'"


def fill(ledger: Ledger, last: int, first: int = 1) -> None:
    ledger.sql(FILL.format(first=first, last=last))


def sizes(ledger: Ledger, run_id: int) -> list[int]:
    return [ledger.batch(batch_id)["rows_planned"] for batch_id in ledger.batch_ids(run_id)]


def spans(ledger: Ledger, run_id: int) -> list[tuple[int, int]]:
    found = [ledger.batch(batch_id) for batch_id in ledger.batch_ids(run_id)]
    return [(int(b["first_key"][0]), int(b["last_key"][0])) for b in found]


@pytest.mark.slow(quick=4)
@pytest.mark.parametrize(
    ("rows", "wanted"),
    [(1, [1]), (2, [2]), (9, [9]), (10, [10]), (11, [10, 1]), (12, [10, 2]), (30, [10, 10, 10])],
)
def test_batches_have_the_requested_size_and_the_last_has_the_rest(
    ledger: Ledger, rows: int, wanted: list[int]
) -> None:
    fill(ledger, rows)

    run_id = ledger.planned(a_job())

    assert sizes(ledger, run_id) == wanted
    assert spans(ledger, run_id) == [(1 + 10 * n, min(10 * n + 10, rows)) for n in range(len(wanted))]
    assert ledger.run(run_id).state == "running"


@pytest.mark.parametrize("batch_rows", [1, 2, 3])
def test_very_small_batches_are_cut_right(ledger: Ledger, batch_rows: int) -> None:
    fill(ledger, 7)

    run_id = ledger.planned(a_job(batch_rows=batch_rows))

    assert sum(sizes(ledger, run_id)) == 7
    assert set(sizes(ledger, run_id)[:-1]) == {batch_rows}
    assert [key for first, last in spans(ledger, run_id) for key in range(first, last + 1)] == list(range(1, 8))


def test_a_plan_has_work_for_a_second_worker_as_soon_as_for_the_first(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "GROUP_SECONDS", 60.0)  # however slow the machine is
    fill(ledger, 100)

    run_id = ledger.planned(a_job())

    sent_together = ledger.sql(
        f"SELECT count(*) FROM scorebeat.batches WHERE run_id = {run_id} GROUP BY xmin ORDER BY min(number)"
    )
    assert sent_together == [1, 1, 2, 4, 2]


def test_a_table_without_rows_makes_a_run_that_succeeds_at_once(ledger: Ledger) -> None:
    run_id = ledger.planned(a_job())

    assert ledger.batch_ids(run_id) == []
    assert ledger.run(run_id).state == "succeeded"


def test_rows_that_have_a_prediction_are_not_planned(ledger: Ledger) -> None:
    fill(ledger, 20)
    ledger.scored(a_job())
    fill(ledger, 25, first=21)

    again = ledger.planned(a_job())

    assert spans(ledger, again) == [(21, 25)]


def test_rows_in_quarantine_are_not_planned_and_not_fetched(ledger: Ledger) -> None:
    fill(ledger, 20)
    run_id = ledger.planned(a_job(batch_rows=20))
    quarantine(ledger, run_id, 7)
    ledger.sql("UPDATE scorebeat.runs SET state = 'partial', finished_at = now()")

    again = ledger.scored(a_job(batch_rows=20))

    assert sizes(ledger, again) == [19]
    assert ledger.check_exact("SELECT * FROM items WHERE id <> 7", ledger.target(again).table, "id") == 19


def quarantine(ledger: Ledger, run_id: int, key: int) -> None:
    ledger.sql(
        "INSERT INTO scorebeat.quarantine (prediction_set_id, batch_id, key, error_type, error)"
        f" VALUES ({ledger.target(run_id).id}, {ledger.batch_ids(run_id)[0]}, '[\"{key}\"]', 'Broken', 'oh')"
    )


def test_a_limit_bounds_the_rows_of_a_run(ledger: Ledger) -> None:
    fill(ledger, 50)

    run_id = ledger.planned(a_job(), selection=Selection(limit=23))

    assert sizes(ledger, run_id) == [10, 10, 3]


def test_a_limit_holds_to_the_row_when_rows_come_into_its_ranges(ledger: Ledger) -> None:
    fill(ledger, 40)
    ledger.sql("DELETE FROM items WHERE id % 2 = 0")

    run_id = ledger.planned(a_job(), selection=Selection(limit=5))
    ledger.score(run_id)

    assert ledger.sql(f"SELECT id FROM {ledger.target(run_id).table} ORDER BY id") == [1, 3, 5, 7, 9]


def test_a_filter_bounds_the_rows_of_a_run_at_planning_and_at_scoring(ledger: Ledger) -> None:
    fill(ledger, 40)

    run_id = ledger.planned(a_job(), selection=Selection(where="id % 3 = 0 -- every third\n OR id = 1"))
    ledger.score(run_id)

    assert sizes(ledger, run_id) == [10, 4]
    only = "SELECT * FROM items WHERE id % 3 = 0 OR id = 1"
    assert ledger.check_exact(only, ledger.target(run_id).table, "id") == 14


@pytest.mark.parametrize(
    "where", ["true) OR (true", "id = 1; DROP TABLE items", "1 = 1) UNION SELECT 1 --", "", "nope"]
)
def test_a_filter_that_is_not_one_condition_is_refused(ledger: Ledger, where: str) -> None:
    fill(ledger, 5)

    with pytest.raises(UsageError, match="--where"):
        check_filter(ledger, where)

    assert ledger.sql("SELECT count(*) FROM items") == [5]


@pytest.mark.slow(quick=3)
@pytest.mark.parametrize("where", ["id % 2 = 0", "true -- all", "a::text LIKE '%x:y%' OR b > 1", "id IN (SELECT 1)"])
def test_a_filter_may_be_any_condition(ledger: Ledger, where: str) -> None:
    fill(ledger, 5)

    check_filter(ledger, where)

    ledger.scored(a_job(), selection=Selection(where=where))


def check_filter(ledger: Ledger, where: str) -> None:
    with ledger.engine.connect() as connection:
        found = source.describe(connection, ledger.producer.url, a_job())
        filters.require_filter(connection, ledger.producer.url, found, where)


BAD_KEYS = {
    "NULL": ("SELECT NULLIF(id, 3) AS id, a, b FROM items", r"\(NULL\) 1 times"),
    "repeated": ("SELECT id, a, b FROM items UNION ALL SELECT 4, 1, 1", r"\(4\) 2 times"),
    "repeated by a join": ("SELECT i.id, i.a, i.b FROM items i, generate_series(1, 2) AS s", r"\(\d\) 2 times"),
    "repeated by a set function": ("SELECT id, a, b, generate_series(1, 3) AS s FROM items", r"\(\d\) 3 times"),
}


@pytest.mark.parametrize("which", BAD_KEYS)
def test_keys_that_are_null_or_repeat_fail_the_run_and_are_named(ledger: Ledger, which: str) -> None:
    fill(ledger, 5)
    query, named = BAD_KEYS[which]

    run_id = ledger.planned(a_job(query=query))

    run = ledger.run(run_id)
    assert (run.state, ledger.batch_ids(run_id)) == ("failed", [])
    assert re.search(named, run.reason or ""), run.reason


def test_planning_writes_nothing_whatever_the_query_calls(ledger: Ledger) -> None:
    fill(ledger, 5)
    ledger.sql("CREATE TABLE seen (id bigint)")
    ledger.sql(
        "CREATE FUNCTION sly(id bigint) RETURNS bigint LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO seen VALUES (id); RETURN id; END $$"
    )

    run_id = ledger.planned(a_job(query="SELECT sly(id) AS id, a, b FROM items"))

    run = ledger.run(run_id)
    assert (run.state, run.reason and "read-only" in run.reason) == ("failed", True)
    assert ledger.sql("SELECT count(*) FROM seen") == [0]


def test_a_query_that_fails_in_the_middle_fails_the_run_and_cancels_its_batches(ledger: Ledger) -> None:
    fill(ledger, 60)
    query = "SELECT id, a, b FROM items WHERE 10 / (45 - id) IS NOT NULL"

    run_id = ledger.planned(a_job(query=query))

    run = ledger.run(run_id)
    assert (run.state, run.reason and "division by zero" in run.reason) == ("failed", True)
    assert {ledger.batch(b)["state"] for b in ledger.batch_ids(run_id)} <= {"cancelled"}


def test_a_job_keeps_the_settings_it_had_when_its_run_began(ledger: Ledger) -> None:
    fill(ledger, 25)
    run_id = ledger.enqueue(a_job(batch_rows=5))
    ledger.apply(a_job(batch_rows=25))

    plan(ledger.producer, run_id)

    assert sizes(ledger, run_id) == [5] * 5
