"""Two profiles of one measure in the same bins: shares as NumPy counts them, and what cannot be drawn."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from scorebeat.drift.histogram import BINS, MOST_VALUES, Histogram, histogram
from scorebeat.drift.profile import Column, Profile

RNG = np.random.default_rng(7)
CITIES = [f"city {number}" for number in range(20)]


def column(values: Any) -> Column:
    rows = pa.record_batch({"x": values})
    return Profile.of(rows, rows).inputs["x"]


def drawn(before: Any, now: Any) -> Histogram:
    found = histogram(column(before), column(now))
    assert found is not None
    return found


def test_shares_are_those_that_numpy_counts() -> None:
    before, now = RNG.normal(0, 1, 300), RNG.normal(1, 2, 200)  # few enough that a sketch keeps each

    bins = drawn(before, now).bins
    edges = [float(one.name.split()[-1]) for one in bins[:-1]]

    assert len(bins) == BINS + 2
    for shares, values in (([one.before for one in bins], before), ([one.now for one in bins], now)):
        counts, _ = np.histogram(values, [-np.inf, *edges, np.inf])
        np.testing.assert_allclose(shares, counts / len(values), atol=2 / len(values))  # edges are printed rounded
        assert sum(shares) == pytest.approx(1)


def test_the_most_frequent_values_of_a_category_are_bins_and_the_others_are_one() -> None:
    before = np.repeat(CITIES, np.arange(20, 0, -1) + 4)
    bins = drawn(before, [*before, *["new"] * 90]).bins

    assert [one.name for one in bins[:2]] == ["new", "city 0"]
    assert (bins[0].before, bins[0].now) == (0, 90 / (len(before) + 90))
    assert bins[-1].name == f"{21 - MOST_VALUES} other values"
    assert sum(one.before for one in bins) == pytest.approx(1)


def test_few_numbers_are_values_in_their_order_and_many_are_intervals() -> None:
    few, many = np.arange(100) % 3, np.arange(40, dtype=float)

    assert [one.name for one in drawn(few, few).bins] == ["0", "1", "2"]
    assert len(drawn(many, many).bins) == BINS + 2
    assert [one.name for one in drawn([2.0, float("nan"), 1.0], [1.0]).bins] == ["1.0", "2.0", "nan"]


def test_a_text_that_few_rows_share_is_no_word_of_the_drawing() -> None:
    rare = drawn(["secret"] + ["common"] * 50, ["common"] * 50).bins[1].name

    assert "secret" not in rare


@pytest.mark.parametrize(
    "values",
    [[1e308, -1e308] * 40, [0.5] * 50, [float("nan"), 1.0, 2.0], [float("inf"), *range(60)], [True, False, True],
     [b"ab", b"c"], np.array(["2026-01-01", "9999-12-31"], "datetime64[s]")],
)  # fmt: skip
def test_shares_sum_to_one_whatever_the_values(values: Any) -> None:
    bins = drawn(values, values).bins

    assert sum(one.now for one in bins) == pytest.approx(1)


@pytest.mark.parametrize(("before", "now"), [([1.0, 2.0], ["a", "b"]), ([1.0], pa.array([None], "float64"))])
def test_measures_that_cannot_be_compared_are_not_drawn(before: Any, now: Any) -> None:
    assert histogram(column(before), column(now)) is None
