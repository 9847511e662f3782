"""A row costs only itself: one whose value PostgreSQL cannot compute for the fetch, or refuses to store."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pytest

from scorebeat.db.ledger.runs import Selection
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import Model, Signature
from scorebeat.producer.control.plan import plan
from scorebeat.producer.requests.enqueue import Request, enqueue
from tests.support import poison
from tests.support.ledger_fixtures import Ledger, ledger, trained
from tests.support.ledger_rows import a_job
from tests.support.poison_fixtures import Points, assert_accounted, points

pytestmark = pytest.mark.wide

__all__ = ["ledger", "points", "trained"]

ONE_BATCH = [("committed", 1)]
REFUSED_AT_FETCH = {
    "a division by zero": "x + 1 / (id - 50) * 0.0",
    "a number that overflows": "x * CASE id WHEN 50 THEN 1e308::float8 ELSE 1 END",
    "a word that is no number": "(CASE id WHEN 50 THEN 'oh' ELSE x::text END)::float8",
}


@pytest.mark.parametrize("case", REFUSED_AT_FETCH)
def test_a_row_for_which_the_query_fails_is_quarantined(points: Points, case: str) -> None:
    points.fill(2000)
    points.model({"nan": [900]})
    job = points.job(query=f"SELECT id, {REFUSED_AT_FETCH[case]} AS x FROM points")

    run = points.scored(job)

    assert points.batches(run) == ONE_BATCH
    assert_accounted(points.engine, job, {50: "DataError", 900: "NonsenseError"})


SECRET = "ann@home.example"
QUOTING = {
    "an invalid number": "(CASE WHEN {bad} THEN 'ann@home.example' ELSE x::text END)::float8",
    "one with quotation marks and lines": "(CASE WHEN {bad} THEN E'\"a\\nann@home.example\"' ELSE x::text END)::float8",
    "a date": "x + extract(year FROM (CASE WHEN {bad} THEN 'ann@home.example' ELSE '2026-01-01' END)::date) * 0",
    "a function's own": "x + reported(CASE WHEN {bad} THEN 'ann@home.example' END)",
}
REPORTED = (
    "CREATE FUNCTION reported(word text) RETURNS float8 LANGUAGE plpgsql STABLE AS"
    " $$ BEGIN IF word IS NULL THEN RETURN 0; END IF;"
    """ RAISE EXCEPTION USING MESSAGE = 'not "' || word || '"', ERRCODE = '22000'; END $$"""
)


@pytest.mark.parametrize("case", QUOTING)
@pytest.mark.parametrize("which", ["id = 50", "id > 0"], ids=["a row", "all rows"])
def test_no_value_of_a_table_is_in_an_error_that_is_stored(points: Points, case: str, which: str) -> None:
    points.fill(200)
    points.model({})
    points.sql(REPORTED)
    job = points.job(query=f"SELECT id, {QUOTING[case].format(bad=which)} AS x FROM points")

    points.scored(job)

    stored = [
        *points.quarantined(job, "z.error"),
        *points.sql("SELECT error FROM scorebeat.batches WHERE error IS NOT NULL"),
    ]
    stored += points.sql("SELECT reason FROM scorebeat.runs WHERE reason IS NOT NULL")
    assert any('"***"' in words for words in stored), stored
    assert not any(SECRET in words for words in stored)
    assert any(word in words for words in stored for word in ("invalid input syntax", "not "))


def test_no_value_of_a_table_is_in_the_reason_of_a_plan_that_failed(points: Points) -> None:
    points.fill(20)
    points.model({})
    job = points.job()
    where = "(CASE WHEN id = 5 THEN 'ann@home.example' ELSE '1' END)::int = 1"
    run = enqueue(points.acting, Request(job.name, "test", selection=Selection(where=where))).run_id
    plan(points.acting, run)

    points.work(run)

    reason = str(points.run(run).reason)
    assert 'invalid input syntax for type integer: "***"' in reason
    assert SECRET not in reason


def test_several_rows_for_which_the_query_fails_are_quarantined_wherever_they_are(points: Points) -> None:
    bad = [1, 2, 500, 513, 514, 1999, 2000]
    points.fill(2000)
    points.model({})
    job = points.job(query=f"SELECT id, x / (CASE WHEN id IN {tuple(bad)} THEN 0 ELSE 1 END) AS x FROM points")

    run = points.scored(job)

    assert points.batches(run) == ONE_BATCH
    assert_accounted(points.engine, job, dict.fromkeys(bad, "DataError"))


def test_a_range_of_rows_that_the_query_fails_for_is_quarantined(points: Points) -> None:
    points.fill(1300)
    points.model({})
    job = points.job(
        query="SELECT id, x / (CASE WHEN id <= 512 THEN 0 ELSE 1 END) AS x FROM points", error_threshold=-1
    )

    run = points.scored(job)

    assert points.batches(run) == ONE_BATCH
    assert_accounted(points.engine, job, dict.fromkeys(range(1, 513), "DataError"))


def test_a_query_that_fails_for_quarantined_rows_comes_to_an_end(points: Points) -> None:
    points.fill(100)
    points.model({})
    query = "SELECT id, random() AS r, x / (CASE WHEN id = 50 THEN 0 ELSE 1 END) AS x FROM points"
    job = points.job(query=query)  # for the volatile column, all rows are computed before any is left out

    points.scored(job)

    if points.quarantined(job):
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
    assert points.quarantined(job) == []


def test_json_that_is_no_array_of_numbers_quarantines_its_row(ledger: Ledger) -> None:
    ledger.sql("ALTER TABLE items ADD v jsonb")
    ledger.sql("INSERT INTO items (id, a, b) SELECT n, 4 + n / 100.0, 3 FROM generate_series(1, 100) AS n")
    ledger.sql("UPDATE items SET v = jsonb_build_array(a, b)")
    ledger.sql("""UPDATE items SET v = '{"a": 1}' WHERE id = 50; UPDATE items SET v = '[1]' WHERE id = 51""")
    run = ledger.planned(a_job(query="SELECT id, v FROM items", batch_rows=100))

    ledger.score(run)

    quarantined = ledger.sql("SELECT key->>0, error_type FROM scorebeat.quarantine ORDER BY id")
    assert sorted(quarantined) == [("50", "InputError"), ("51", "InputError")]
    good = "SELECT id, a, b FROM items WHERE id NOT IN (50, 51)"
    assert ledger.check_exact(good, ledger.target(run).table, "id") == 98


LONG = "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 320) i)"
"""10 kB that do not compress: more than a btree takes."""


def test_a_row_whose_key_is_too_long_to_store_is_quarantined_and_stays_there(points: Points) -> None:
    points.sql("CREATE TABLE points (id text NOT NULL, x float8)")
    points.sql(f"INSERT INTO points SELECT 'k' || i, i FROM generate_series(1, 600) i UNION ALL SELECT {LONG}, 0.5")
    points.model({})
    job = points.job()

    run = points.scored(job)
    (key,) = points.quarantined(job)
    again = points.scored(job)

    assert points.batches(run) == ONE_BATCH
    assert len(key) == 10_240
    assert points.batches(again) == []
    (kind,) = points.quarantined(job, "z.error_type")
    assert_accounted(points.engine, job, {key: kind})


class Words(poison.Poison):
    """Returns text; for one row a text that PostgreSQL cannot hold."""

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        words = [f"{x:g}" + "\0" * (x in (50.5, 51.5)) for x in rows.column(0).to_pylist()]
        return pa.RecordBatch.from_arrays([pa.array(words)], schema=self.outputs)


def test_an_output_that_postgresql_refuses_quarantines_its_row(points: Points, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = pa.schema([("value", pa.string())])
    monkeypatch.setattr(poison, "SIGNATURE", Signature(poison.SIGNATURE.inputs, outputs))
    monkeypatch.setattr(poison, "load", load_words)
    points.fill(1000)
    points.model({})
    job = points.job()

    run = points.scored(job)

    assert points.batches(run) == ONE_BATCH
    assert sorted(points.quarantined(job)) == ["50", "51"]
    assert points.view(job) == {i: f"{i}.5" for i in range(1, 1001) if i not in (50, 51)}


def load_words(artifact: Artifact, device: str) -> Model:
    del device
    nothing: Mapping[str, Any] = {}
    return Words(dict(nothing), artifact.signature.outputs)
