"""Micro-batches: what does not fit into the memory at once is scored in parts, and the size that fitted is kept."""

from collections.abc import Callable, Iterable

import pyarrow as pa
import pytest

from scorebeat.core.errors import DeviceMemoryError, OutputError
from scorebeat.models.scoring.micro_batches import MicroBatches

OUTPUTS = pa.schema([("value", pa.float64())])


class Doubles:
    """Doubles `x`; at most `fits` rows at once, and never those in `monsters`, fit into the memory."""

    outputs = OUTPUTS

    def __init__(self, fits: int = 1_000_000, monsters: Iterable[int] = (), alone: Iterable[int] = ()) -> None:
        self.fits = fits
        self.monsters = frozenset(monsters)
        self.alone = frozenset(alone)
        """Rows that fit, but with no other."""
        self.calls: list[int] = []
        self.error: Callable[[], Exception] = lambda: DeviceMemoryError("full")

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        x = rows.column(0).to_pylist()
        self.calls.append(len(x))
        if len(x) > self.fits or self.monsters.intersection(x) or (len(x) > 1 and self.alone.intersection(x)):
            raise self.error()
        return pa.record_batch([pa.array([2.0 * one for one in x], pa.float64())], schema=OUTPUTS)


def rows(count: int) -> pa.RecordBatch:
    return pa.record_batch({"x": pa.array(range(count), pa.int64())})


def check(scored: pa.RecordBatch, count: int) -> None:
    assert scored.column(0).to_pylist() == [2.0 * i for i in range(count)]
    assert scored.schema == OUTPUTS


def learning(model: Doubles, limit: int | None = None) -> tuple[MicroBatches, list[int]]:
    learned: list[int] = []
    return MicroBatches(model, limit, learned.append), learned


@pytest.mark.parametrize("count", [0, 1, 2, 5_000])
def test_rows_that_fit_are_scored_in_one_call_and_nothing_is_learned(count: int) -> None:
    micro_batches, learned = learning(model := Doubles())

    check(micro_batches.predict(rows(count)), count)

    assert (model.calls, learned) == ([count], [])


@pytest.mark.parametrize("fits", [1, 2, 3, 60, 97, 100, 999])
@pytest.mark.parametrize("count", [2, 3, 100, 1000, 1001])
def test_rows_that_do_not_fit_at_once_are_scored_in_parts_in_their_order(fits: int, count: int) -> None:
    micro_batches, learned = learning(Doubles(fits))

    check(micro_batches.predict(rows(count)), count)

    assert learned == ([] if count <= fits else [micro_batches.limit])
    assert count <= fits or fits / 2 <= learned[0] <= fits


def test_the_size_that_fitted_is_never_exceeded_again() -> None:
    micro_batches, learned = learning(model := Doubles(100))
    micro_batches.predict(rows(1000))
    model.calls.clear()

    check(micro_batches.predict(rows(3000)), 3000)

    assert max(model.calls) == learned[0]
    assert len(learned) == 1


def test_a_size_that_was_learned_elsewhere_is_where_it_starts() -> None:
    micro_batches, learned = learning(model := Doubles(), limit=128)

    check(micro_batches.predict(rows(300)), 300)

    assert (model.calls, learned) == ([128, 128, 44], [])


def test_finding_the_size_takes_a_few_failures_and_no_row_is_scored_twice() -> None:
    micro_batches, learned = learning(model := Doubles(100))

    check(micro_batches.predict(rows(50_000)), 50_000)

    assert sum(size > 100 for size in model.calls) < 16
    assert sum(size for size in model.calls if size <= 100) == 50_000
    assert learned == [98]


@pytest.mark.parametrize("alone", [[0], [999], [500, 501], [0, 1, 998]])
def test_a_few_large_rows_do_not_make_the_size_small_for_all_others(alone: list[int]) -> None:
    micro_batches, learned = learning(model := Doubles(alone=alone))

    check(micro_batches.predict(rows(1000)), 1000)
    model.calls.clear()
    micro_batches.predict(rows(2000).slice(1000))

    assert (model.calls, learned) == ([1000], [])


def test_a_size_that_fitted_before_is_abandoned_when_it_fails_repeatedly() -> None:
    micro_batches, learned = learning(model := Doubles())
    micro_batches.predict(rows(100))
    model.fits = 30  # somebody else uses the device from now on

    for _ in range(2):
        check(micro_batches.predict(rows(100)), 100)
    assert learned == []
    check(micro_batches.predict(rows(100)), 100)

    assert learned == [25]


@pytest.mark.parametrize("limit", [None, 10])
def test_a_row_that_does_not_fit_alone_is_raised_for_and_the_size_stays(limit: int | None) -> None:
    micro_batches, learned = learning(Doubles(monsters=[7]), limit)

    with pytest.raises(DeviceMemoryError, match="one row alone does not fit into the memory: full"):
        micro_batches.predict(rows(1000))

    assert (micro_batches.limit, learned) == (limit, [])
    with pytest.raises(DeviceMemoryError):
        micro_batches.predict(rows(8).slice(6))
    assert (micro_batches.limit, learned) == (limit, [])


def test_memory_of_the_host_is_treated_like_that_of_a_device() -> None:
    micro_batches, learned = learning(model := Doubles(30))
    model.error = MemoryError

    check(micro_batches.predict(rows(100)), 100)

    assert learned == [25]


def test_another_error_is_raised_at_once_and_what_was_learned_before_it_stays() -> None:
    class Broken(Doubles):
        """Its output for the last rows is too short."""

        def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
            scored = super().predict(rows)
            return scored.slice(1) if 99 in rows.column(0).to_pylist() else scored

    micro_batches, learned = learning(Broken(30))

    with pytest.raises(OutputError):
        micro_batches.predict(rows(100))

    assert learned == [25]
