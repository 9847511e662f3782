"""A row costs only itself: one that a model raises for, answers nonsense for, or that PostgreSQL refuses."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pytest

from core.states import RunState
from models.contract import Model, Signature
from tests import poison
from tests.ledger_fixtures import Ledger, a_job, ledger, trained
from tests.poison_fixtures import Points, assert_accounted, points

__all__ = ["ledger", "points", "trained"]

ONE_BATCH = [("committed", 1)]


@pytest.mark.parametrize("bad", [[1], [20_000], [3, 4, 5, 511, 512, 513, 10_000, 19_999]])
def test_a_row_that_raises_costs_only_itself_among_20_000(points: Points, bad: list[int]) -> None:
    points.fill(20_000)
    points.model({"raise": bad})
    job = points.job()

    run = points.scored(job)

    assert points.batches(run) == ONE_BATCH
    assert points.run(run).state is RunState.PARTIAL
    assert points.batches(run, "rows_scored, rows_failed") == [(20_000 - len(bad), len(bad))]
    assert_accounted(points.engine, job, dict.fromkeys(bad, "ValueError"))


def test_a_row_put_aside_has_its_error_and_the_places_of_it_without_values(points: Points) -> None:
    points.fill(100)
    points.model({"raise": [77]})
    job = points.job()

    points.scored(job)

    ((error, told),) = points.aside(job, "z.error, z.traceback")
    assert error == "the model does not like a row"
    assert "poison.py:" in told
    assert told.splitlines()[-1].endswith("in predict")
    assert "77.5" not in told
    assert_accounted(points.engine, job, {77: "ValueError"})


def test_bad_rows_are_found_in_each_batch_and_are_not_tried_again_by_the_next_run(points: Points) -> None:
    points.fill(100)
    points.model({"raise": [5, 50, 95]})
    job = points.job(batch_rows=30)

    run = points.scored(job)
    points.sql("INSERT INTO points VALUES (101, 101.5)")
    again = points.scored(job)

    assert [points.run(one).state for one in (run, again)] == [RunState.PARTIAL, RunState.SUCCEEDED]
    assert points.batches(again, "rows_planned") == [1]
    assert_accounted(points.engine, job, dict.fromkeys([5, 50, 95], "ValueError"))


@pytest.mark.parametrize("kind", ["nan", "infinity"])
def test_a_row_with_nan_or_infinity_for_an_output_is_put_aside(points: Points, kind: str) -> None:
    points.fill(1000)
    points.model({kind: [7, 8]})
    job = points.job()

    run = points.scored(job)

    assert points.batches(run) == ONE_BATCH
    assert "allow_nan = true" in points.aside(job, "z.error")[0]
    assert_accounted(points.engine, job, dict.fromkeys([7, 8], "NonsenseError"))


def test_a_job_that_allows_nan_stores_it(points: Points) -> None:
    points.fill(100)
    points.model({"nan": [7], "infinity": [8]})
    job = points.job(allow_nan=True)

    run = points.scored(job)

    assert points.run(run).state is RunState.SUCCEEDED
    shown = points.view(job)
    assert (str(shown[7]), str(shown[8]), shown[9]) == ("nan", "inf", 19.0)
    assert len(shown) == 100


@pytest.mark.parametrize("wrong", ["wrong length", "wrong columns", "wrong types"])
def test_a_model_that_breaks_its_contract_makes_one_dead_batch_with_one_error(points: Points, wrong: str) -> None:
    points.fill(1000)
    points.model({wrong: [500]})
    job = points.job(batch_rows=600)

    run = points.scored(job)

    assert points.batches(run) == [("dead", 1), ("committed", 1)]
    assert [error.partition(":")[0] for error in points.batches(run, "error")[:1]] == ["OutputError"]
    assert points.run(run).state is RunState.PARTIAL
    assert points.aside(job) == []
    assert sorted(points.view(job)) == list(range(601, 1001))


@pytest.mark.parametrize(
    ("kinds", "error", "attempts"), [("nan", "NonsenseError", 1), ("raise", "ValueError", 5)], ids=["nan", "raise"]
)
def test_a_batch_whose_every_row_fails_alike_is_one_dead_batch(
    points: Points, kinds: str, error: str, attempts: int
) -> None:
    points.fill(5000)
    points.model({kinds: range(1, 5001)})
    job = points.job()

    run = points.scored(job)

    assert points.batches(run) == [("dead", attempts)]
    assert points.run(run).state is RunState.FAILED
    assert error in str(points.run(run).reason)
    assert points.aside(job) == []
    assert points.view(job) == {}


def test_a_stretch_of_bad_rows_is_no_fault_of_the_whole_batch(points: Points) -> None:
    bad = range(513, 1025)
    points.fill(3000)
    points.model({"raise": bad})
    job = points.job(error_threshold=-1)
    run = points.planned(job)
    points.sql("UPDATE scorebeat.batches SET care = 1")  # a death before: it is scored in chunks of 512

    points.work(run)

    assert points.batches(run) == ONE_BATCH
    assert_accounted(points.engine, job, dict.fromkeys(bad, "ValueError"))


def test_a_null_that_the_model_refuses_puts_its_row_aside(ledger: Ledger) -> None:
    ledger.sql("ALTER TABLE items ALTER a DROP NOT NULL")
    ledger.sql("INSERT INTO items SELECT n, nullif(4 + n / 100.0, 4.5), 3 FROM generate_series(1, 100) AS n")
    run = ledger.planned(a_job(batch_rows=100))

    ledger.score(run)

    (aside,) = ledger.sql("SELECT key->>0, error_type, error FROM scorebeat.quarantine")
    assert aside[:2] == ("50", "InputError")
    assert "a has 1 NULL" in aside[2]
    assert ledger.check_exact("SELECT * FROM items WHERE id <> 50", ledger.target(run).table, "id") == 99


def test_a_null_that_the_model_accepts_is_scored(points: Points) -> None:
    points.fill(100)
    points.sql("UPDATE points SET x = NULL WHERE id = 50")
    points.model({})
    job = points.job(allow_nan=True)

    run = points.scored(job)

    assert points.run(run).state is RunState.SUCCEEDED
    assert str(points.view(job)[50]) == "nan"


REFUSED_AT_FETCH = {
    "a division by zero": "x + 1 / (id - 50) * 0.0",
    "a number that overflows": "x * CASE id WHEN 50 THEN 1e308::float8 ELSE 1 END",
    "a word that is no number": "(CASE id WHEN 50 THEN 'oh' ELSE x::text END)::float8",
}


@pytest.mark.parametrize("case", REFUSED_AT_FETCH)
def test_a_row_for_which_the_query_fails_is_put_aside(points: Points, case: str) -> None:
    points.fill(2000)
    points.model({"nan": [900]})
    job = points.job(query=f"SELECT id, {REFUSED_AT_FETCH[case]} AS x FROM points")

    run = points.scored(job)

    assert points.batches(run) == ONE_BATCH
    assert_accounted(points.engine, job, {50: "DataError", 900: "NonsenseError"})


def test_several_rows_for_which_the_query_fails_are_put_aside_whatever_lies_between(points: Points) -> None:
    bad = [1, 2, 500, 513, 514, 1999, 2000]
    points.fill(2000)
    points.model({})
    job = points.job(query=f"SELECT id, x / (CASE WHEN id IN {tuple(bad)} THEN 0 ELSE 1 END) AS x FROM points")

    run = points.scored(job)

    assert points.batches(run) == ONE_BATCH
    assert_accounted(points.engine, job, dict.fromkeys(bad, "DataError"))


def test_a_stretch_of_rows_that_the_query_fails_for_is_put_aside(points: Points) -> None:
    points.fill(1300)
    points.model({})
    job = points.job(
        query="SELECT id, x / (CASE WHEN id <= 512 THEN 0 ELSE 1 END) AS x FROM points", error_threshold=-1
    )

    run = points.scored(job)

    assert points.batches(run) == ONE_BATCH
    assert_accounted(points.engine, job, dict.fromkeys(range(1, 513), "DataError"))


def test_a_query_that_fails_for_rows_put_aside_before_comes_to_an_end(points: Points) -> None:
    points.fill(100)
    points.model({})
    query = "SELECT id, random() AS r, x / (CASE WHEN id = 50 THEN 0 ELSE 1 END) AS x FROM points"
    job = points.job(query=query)  # for the volatile column, all rows are computed before any is left out

    points.scored(job)

    if points.aside(job):
        assert_accounted(points.engine, job, {50: "DataError"})
    else:
        assert points.view(job) == {}


def test_a_query_that_fails_for_every_row_makes_one_dead_batch(points: Points) -> None:
    points.fill(2000)
    points.model({})
    job = points.job(query="SELECT id, x / (id - id) AS x FROM points", error_threshold=-1)

    run = points.scored(job)

    assert points.batches(run) == [("dead", 1)]
    assert "division by zero" in points.batches(run, "error")[0]
    assert points.aside(job) == []


def test_json_that_is_no_array_of_numbers_puts_its_row_aside(ledger: Ledger) -> None:
    ledger.sql("ALTER TABLE items ADD v jsonb")
    ledger.sql("INSERT INTO items (id, a, b) SELECT n, 4 + n / 100.0, 3 FROM generate_series(1, 100) AS n")
    ledger.sql("UPDATE items SET v = jsonb_build_array(a, b)")
    ledger.sql("""UPDATE items SET v = '{"a": 1}' WHERE id = 50; UPDATE items SET v = '[1]' WHERE id = 51""")
    run = ledger.planned(a_job(query="SELECT id, v FROM items", batch_rows=100))

    ledger.score(run)

    aside = ledger.sql("SELECT key->>0, error_type FROM scorebeat.quarantine ORDER BY id")
    assert sorted(aside) == [("50", "InputError"), ("51", "InputError")]
    good = "SELECT id, a, b FROM items WHERE id NOT IN (50, 51)"
    assert ledger.check_exact(good, ledger.target(run).table, "id") == 98


LONG = "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 320) i)"
"""10 kB that do not compress: more than a btree takes."""


def test_a_row_whose_key_is_too_long_to_store_is_put_aside_and_stays_there(points: Points) -> None:
    points.sql("CREATE TABLE points (id text NOT NULL, x float8)")
    points.sql(f"INSERT INTO points SELECT 'k' || i, i FROM generate_series(1, 600) i UNION ALL SELECT {LONG}, 0.5")
    points.model({})
    job = points.job()

    run = points.scored(job)
    (key,) = points.aside(job)
    again = points.scored(job)

    assert points.batches(run) == ONE_BATCH
    assert len(key) == 10_240
    assert points.batches(again) == []
    (kind,) = points.aside(job, "z.error_type")
    assert_accounted(points.engine, job, {key: kind})


class Words(poison.Poison):
    """Gives text; for one row a text that PostgreSQL cannot hold."""

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        words = [f"{x:g}" + "\0" * (x in (50.5, 51.5)) for x in rows.column(0).to_pylist()]
        return pa.RecordBatch.from_arrays([pa.array(words)], schema=self.outputs)


def test_an_output_that_postgresql_refuses_puts_its_row_aside(points: Points, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = pa.schema([("value", pa.string())])
    monkeypatch.setattr(poison, "SIGNATURE", Signature(poison.SIGNATURE.inputs, outputs))
    monkeypatch.setattr(poison, "load", load_words)
    points.fill(1000)
    points.model({})
    job = points.job()

    run = points.scored(job)

    assert points.batches(run) == ONE_BATCH
    assert sorted(points.aside(job)) == ["50", "51"]
    assert points.view(job) == {i: f"{i}.5" for i in range(1, 1001) if i not in (50, 51)}


def load_words(path: Any, signature: Signature) -> Model:
    del path
    nothing: Mapping[str, Any] = {}
    return Words(dict(nothing), signature.outputs)
