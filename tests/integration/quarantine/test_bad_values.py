"""A row costs only itself: one that a model raises for, returns nonsense for, or that PostgreSQL refuses."""

from collections.abc import Iterable

import pytest

from scorebeat.core.states import RunState
from tests.support.ledger_fixtures import Ledger, ledger, trained
from tests.support.ledger_rows import a_job
from tests.support.poison_fixtures import Points, assert_accounted, points

pytestmark = pytest.mark.wide

__all__ = ["ledger", "points", "trained"]

ONE_BATCH = [("committed", 1)]


@pytest.mark.slow(quick=3)
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


def test_a_quarantined_row_has_its_error_and_a_traceback_without_values(points: Points) -> None:
    points.fill(100)
    points.model({"raise": [77]})
    job = points.job()

    points.scored(job)

    ((error, traceback),) = points.quarantined(job, "z.error, z.traceback")
    assert error == "the model does not like a row"
    assert "poison.py:" in traceback
    assert traceback.splitlines()[-1].endswith("in predict")
    assert "77.5" not in traceback
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


@pytest.mark.quick
@pytest.mark.parametrize("kind", ["nan", "infinity"])
def test_a_row_with_nan_or_infinity_for_an_output_is_quarantined(points: Points, kind: str) -> None:
    points.fill(1000)
    points.model({kind: [7, 8]})
    job = points.job()

    run = points.scored(job)

    assert points.batches(run) == ONE_BATCH
    assert "allow_nan = true" in points.quarantined(job, "z.error")[0]
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


@pytest.mark.parametrize("bad", [[7], range(1, 101)], ids=["a row", "the batch"])
def test_a_secret_in_a_models_error_is_not_stored(points: Points, bad: Iterable[int]) -> None:
    points.fill(100)
    points.model({"leak": bad})
    job = points.job()

    points.scored(job)

    stored = [
        *points.quarantined(job, "z.error"),
        *points.sql("SELECT error FROM scorebeat.batches WHERE error IS NOT NULL"),
    ]
    stored += points.sql("SELECT reason FROM scorebeat.runs WHERE reason IS NOT NULL")
    assert any("no answer from postgresql://ann:***@db/app" in words for words in stored)
    assert not any("s3cr3t" in words for words in stored)


@pytest.mark.slow(quick=3)
@pytest.mark.parametrize("wrong", ["wrong length", "wrong columns", "wrong types"])
def test_a_row_for_which_the_model_breaks_its_contract_is_quarantined_alone(points: Points, wrong: str) -> None:
    points.fill(1000)
    points.model({wrong: [500]})
    job = points.job()

    run = points.scored(job)

    assert points.batches(run) == ONE_BATCH
    assert_accounted(points.engine, job, {500: "OutputError"})


@pytest.mark.slow(quick=2)
@pytest.mark.parametrize(
    ("kind", "name"), [("mute", "MuteError"), ("cancelled", "CancelledError"), ("leave", "SystemExit")]
)
def test_an_error_of_any_type_that_a_model_raises_for_a_row_costs_only_the_row(
    points: Points, kind: str, name: str
) -> None:
    points.fill(1000)
    points.model({kind: [7, 500]})
    job = points.job()

    run = points.scored(job)

    assert points.batches(run) == ONE_BATCH
    assert_accounted(points.engine, job, dict.fromkeys([7, 500], name))


@pytest.mark.parametrize(
    ("kind", "message"),
    [("mute", "MuteError: (its message"), ("cancelled", "CancelledError: the"), ("leave", "SystemExit: the model")],
)
def test_a_model_that_raises_no_exception_for_any_row_makes_one_dead_batch(
    points: Points, kind: str, message: str
) -> None:
    points.fill(1000)
    points.model({kind: range(1, 1001)})
    job = points.job()

    run = points.scored(job)

    assert points.batches(run, "state") == ["dead"]
    assert points.batches(run, "error")[0].startswith(message)
    assert points.quarantined(job) == []


@pytest.mark.parametrize("wrong", ["wrong length", "wrong columns", "wrong types"])
def test_a_model_that_breaks_its_contract_makes_one_dead_batch_with_one_error(points: Points, wrong: str) -> None:
    points.fill(1000)
    points.model({wrong: range(1, 601)})
    job = points.job(batch_rows=600)

    run = points.scored(job)

    assert points.batches(run) == [("dead", 1), ("committed", 1)]
    assert [error.partition(":")[0] for error in points.batches(run, "error")[:1]] == ["OutputError"]
    assert points.run(run).state is RunState.PARTIAL
    assert points.quarantined(job) == []
    assert sorted(points.view(job)) == list(range(601, 1001))


@pytest.mark.slow(quick=2)
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
    assert points.quarantined(job) == []
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


def test_a_null_that_the_model_refuses_quarantines_its_row(ledger: Ledger) -> None:
    ledger.sql("ALTER TABLE items ALTER a DROP NOT NULL")
    ledger.sql("INSERT INTO items SELECT n, nullif(4 + n / 100.0, 4.5), 3 FROM generate_series(1, 100) AS n")
    run = ledger.planned(a_job(batch_rows=100))

    ledger.score(run)

    (quarantined,) = ledger.sql("SELECT key->>0, error_type, error FROM scorebeat.quarantine")
    assert quarantined[:2] == ("50", "InputError")
    assert "a has 1 NULL" in quarantined[2]
    assert ledger.check_exact("SELECT * FROM items WHERE id <> 50", ledger.target(run).table, "id") == 99


def test_a_null_that_the_model_accepts_is_scored(points: Points) -> None:
    points.fill(100)
    points.sql("UPDATE points SET x = NULL WHERE id = 50")
    points.model({})
    job = points.job(allow_nan=True)

    run = points.scored(job)

    assert points.run(run).state is RunState.SUCCEEDED
    assert str(points.view(job)[50]) == "nan"
