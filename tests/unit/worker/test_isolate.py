"""Narrowing finds exactly the rows that a model cannot score, and takes a fault of the whole as one."""

import random
from collections.abc import Callable, Iterable

import pyarrow as pa
import pytest
from billiard.exceptions import SoftTimeLimitExceeded

from scorebeat.core.errors import InputError, NonsenseError, OutputError
from scorebeat.worker.scoring import isolate
from scorebeat.worker.scoring.isolate import ALIKE_FROM, Scored
from scorebeat.worker.scoring.refused_rows import bad_rows

SCHEMA = pa.schema([("value", pa.float64())])


class Doubles:
    """Doubles `x`, and raises for chosen values; counts its calls."""

    def __init__(self, bad: Iterable[int] = (), error: Callable[[], Exception] = lambda: ValueError("no")) -> None:
        self.bad = frozenset(bad)
        self.error = error
        self.calls = 0

    def __call__(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        self.calls += 1
        x = rows.column(0).to_pylist()
        if self.bad.intersection(x):
            raise self.error()
        return pa.record_batch([pa.array([2.0 * one for one in x], pa.float64())], schema=SCHEMA)


def rows(count: int) -> pa.RecordBatch:
    return pa.record_batch({"x": pa.array(range(count), pa.int64())})


def check(scored: Scored, count: int, bad: Iterable[int]) -> None:
    """The bad ones failed, all others are scored, in their order."""
    good = [i for i in range(count) if i not in set(bad)]
    assert [failed.index for failed in scored.failed] == sorted(bad)
    assert (scored.indices if scored.indices is not None else list(range(count))) == good
    assert scored.predictions.column(0).to_pylist() == [2.0 * i for i in good]
    assert scored.predictions.schema == SCHEMA


def test_a_model_that_raises_for_nothing_is_called_once() -> None:
    model = Doubles()

    check(isolate.predict_isolating_failures(model, rows(1000)), 1000, [])

    assert model.calls == 1


@pytest.mark.parametrize("bad", [[0], [999], [500], [499, 500], [0, 999], list(range(100, 120))])
def test_exactly_the_rows_that_raise_are_found_and_all_others_scored(bad: list[int]) -> None:
    check(isolate.predict_isolating_failures(Doubles(bad), rows(1000)), 1000, bad)


@pytest.mark.parametrize("seed", range(40))
def test_any_set_of_bad_rows_in_a_batch_of_any_size_is_found(seed: int) -> None:
    rng = random.Random(seed)
    count = rng.randrange(1, 300)
    bad = rng.sample(range(count), rng.randrange(0, count if count < ALIKE_FROM else count // 2))

    check(isolate.predict_isolating_failures(Doubles(bad), rows(count)), count, bad)


@pytest.mark.parametrize("every", [2, 5, 10, 100, 125, 250])
def test_bad_rows_at_even_distances_are_not_taken_for_a_fault_of_the_whole(every: int) -> None:
    bad = range(0, 2000, every)

    check(isolate.predict_isolating_failures(Doubles(bad), rows(2000)), 2000, bad)


def test_one_bad_row_of_20_000_takes_a_few_dozen_calls() -> None:
    model = Doubles([12_345])

    check(isolate.predict_isolating_failures(model, rows(20_000)), 20_000, [12_345])

    assert model.calls < 40


def test_a_batch_whose_every_row_fails_alike_raises_that_one_error() -> None:
    model = Doubles(range(20_000), lambda: NonsenseError("all NaN"))

    with pytest.raises(NonsenseError, match="all NaN"):
        isolate.predict_isolating_failures(model, rows(20_000))

    assert model.calls < 100


def test_a_batch_whose_rows_fail_in_several_ways_is_narrowed_to_each() -> None:
    def predict(batch: pa.RecordBatch) -> pa.RecordBatch:
        for x in batch.column(0).to_pylist():
            raise (ValueError if x % 2 else TypeError)(x)
        return Doubles()(batch)

    found = isolate.predict_isolating_failures(predict, rows(1000))

    check(found, 1000, range(1000))
    assert [type(failed.error) for failed in found.failed] == [TypeError, ValueError] * 500


def test_in_a_small_batch_each_failing_row_is_its_own_failure() -> None:
    count = ALIKE_FROM - 1

    check(isolate.predict_isolating_failures(Doubles(range(count)), rows(count)), count, range(count))


@pytest.mark.parametrize("error", [MemoryError(), SoftTimeLimitExceeded()])
@pytest.mark.parametrize("bad", [[7], range(1000)])
def test_an_error_that_no_single_row_is_to_blame_for_is_raised_at_once(error: Exception, bad: Iterable[int]) -> None:
    model = Doubles(bad, lambda: error)

    with pytest.raises(type(error)):
        isolate.predict_isolating_failures(model, rows(1000))

    assert model.calls == 1


def test_a_fault_of_the_whole_that_shows_while_rows_are_narrowed_is_raised() -> None:
    model = Doubles([7])
    model.error = lambda: InputError("a row") if model.calls < 3 else MemoryError("the model")

    with pytest.raises(MemoryError):
        isolate.predict_isolating_failures(model, rows(1000))


@pytest.mark.parametrize("bad", [[7], [0, 499, 999], list(range(100, 120))])
def test_rows_for_which_a_model_breaks_its_contract_are_found(bad: list[int]) -> None:
    check(isolate.predict_isolating_failures(Doubles(bad, lambda: OutputError("length")), rows(1000)), 1000, bad)


@pytest.mark.parametrize("bad", [[], [7], [7, 900]])
def test_a_model_with_one_output_for_all_rows_is_never_trusted_for_single_rows(bad: list[int]) -> None:
    def mean(batch: pa.RecordBatch) -> pa.RecordBatch:
        if batch.num_rows > 1:
            raise OutputError("the model returned 1 predictions for many rows")
        return Doubles(bad)(batch)

    with pytest.raises(OutputError, match="for many rows"):
        isolate.predict_isolating_failures(mean, rows(1000))


def test_the_frames_of_an_error_name_code_and_no_values() -> None:
    def deeper(secret: str) -> None:
        raise ValueError(secret)

    with pytest.raises(ValueError, match="4711") as caught:
        deeper("card 4711")

    trace = bad_rows.stack_of(caught.value)
    assert "4711" not in trace
    assert trace.splitlines()[-1].endswith("in deeper")
    assert "test_isolate.py:" in trace


def test_the_frames_of_a_deep_error_are_its_last_twenty() -> None:
    def fall(depth: int) -> None:
        if depth == 0:
            raise ValueError("deep")
        fall(depth - 1)

    with pytest.raises(ValueError, match="deep") as caught:
        fall(200)

    assert len(bad_rows.stack_of(caught.value).splitlines()) == 20
