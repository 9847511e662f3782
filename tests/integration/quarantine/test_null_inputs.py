"""NULL and NaN among a row's inputs: the model decides, unless its job has another setting."""

import json
from pathlib import Path

import numpy as np
import pytest

from scorebeat.core.states import RunState
from tests.support.ledger_fixtures import Ledger, ledger, trained
from tests.support.ledger_rows import a_job
from tests.support.poison_fixtures import Points, assert_accounted, points

pytestmark = pytest.mark.wide(quick=4)

__all__ = ["ledger", "points", "trained"]

LACKING = {"NULL": "NULL", "NaN": "'NaN'"}
QUERIES = {"a number": "SELECT id, x FROM points", "an array": "SELECT id, ARRAY[x] AS x FROM points"}
ARRAYS = {
    "no array": "NULL",
    "a NULL element": "ARRAY[NULL]::float8[]",
    "a NaN element": "ARRAY['NaN']::float8[]",
    "JSON's null": "'[null]'::jsonb",
}


def seen(path: Path) -> list[float]:
    """The values that the model was called with."""
    return [value for line in path.read_text().splitlines() for value in json.loads(line)[1]]


@pytest.mark.quick
@pytest.mark.parametrize("lacking", LACKING)
def test_an_input_that_the_model_refuses_quarantines_its_row_with_the_error(ledger: Ledger, lacking: str) -> None:
    ledger.sql("ALTER TABLE items ALTER a DROP NOT NULL")
    ledger.sql("INSERT INTO items SELECT n, 4 + n / 100.0, 3 FROM generate_series(1, 100) AS n")
    ledger.sql(f"UPDATE items SET a = {LACKING[lacking]} WHERE id = 50")
    run = ledger.planned(a_job(batch_rows=100))

    ledger.score(run)

    (quarantined,) = ledger.sql("SELECT key->>0, error FROM scorebeat.quarantine")
    assert quarantined[0] == "50"
    assert ("a has 1 NULL" if lacking == "NULL" else "NaN") in quarantined[1]
    assert ledger.check_exact("SELECT * FROM items WHERE id <> 50", ledger.target(run).table, "id") == 99


@pytest.mark.parametrize("lacking", LACKING)
def test_an_input_that_the_model_accepts_is_scored(points: Points, lacking: str) -> None:
    points.fill(100)
    points.sql(f"UPDATE points SET x = {LACKING[lacking]} WHERE id = 50")
    points.model({})
    job = points.job(allow_nan=True)

    run = points.scored(job)

    assert points.run(run).state is RunState.SUCCEEDED
    assert len(points.view(job)) == 100
    assert str(points.view(job)[50]) == "nan"


@pytest.mark.wide(quick=6)
@pytest.mark.parametrize("care", [0, 1, 2], ids=["whole", "in chunks", "row by row"])
@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("lacking", LACKING)
def test_rows_without_a_value_are_quarantined_unseen_if_the_job_sets_that(
    points: Points, tmp_path: Path, lacking: str, query: str, care: int
) -> None:
    points.fill(600)
    points.sql(f"UPDATE points SET x = {LACKING[lacking]} WHERE id IN (1, 50, 600)")
    points.model({}, calls=str(tmp_path / "calls"))
    (tmp_path / "calls").unlink()  # of its trial, which has NULLs, too
    job = points.job(query=QUERIES[query], null_inputs="quarantine", allow_nan=True)
    run = points.planned(job)
    points.sql("UPDATE scorebeat.batches SET care = :care", care=care)

    assert points.work(run) is RunState.PARTIAL

    assert_accounted(points.engine, job, dict.fromkeys([1, 50, 600], "InputError"))
    assert points.batches(run, "rows_scored, rows_failed") == [(597, 3)]
    assert all(error.startswith("NULL or NaN in x, ") for error in points.quarantined(job, "z.error"))
    assert not np.isnan(seen(tmp_path / "calls")).any()


@pytest.mark.parametrize("case", ARRAYS)
def test_an_array_without_a_value_is_quarantined_unseen(points: Points, case: str) -> None:
    kind = "jsonb_build_array(x)" if "jsonb" in ARRAYS[case] else "ARRAY[x]"
    points.fill(20)
    points.model({})
    query = f"SELECT id, CASE id WHEN 7 THEN {ARRAYS[case]} ELSE {kind} END AS x FROM points"
    job = points.job(query=query, null_inputs="quarantine", allow_nan=True)

    points.scored(job)

    assert points.quarantined(job, "z.error_type") == ["InputError"]
    assert_accounted(points.engine, job, {7: "InputError"})


def test_every_row_without_a_value_is_quarantined_and_none_is_retried(points: Points) -> None:
    points.fill(50)
    points.sql("UPDATE points SET x = NULL")
    points.model({})
    job = points.job(null_inputs="quarantine", error_threshold=-1)

    run = points.scored(job)

    assert points.errors == []
    assert points.batches(run) == [("committed", 1)]
    assert len(points.quarantined(job)) == 50
