"""Differences are measured as SciPy measures them, chance is no drift, and a real shift is found."""

import datetime as dt
import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2, ks_2samp, kstwobign, wasserstein_distance

from scorebeat.core.jobs.drift_limits import DriftLimits
from scorebeat.drift import comparison
from scorebeat.drift.comparison import compare, why_not
from scorebeat.drift.finding import Finding
from scorebeat.drift.profile import Profile

ROWS = 1000
LIMITS = DriftLimits()
SENSITIVE = DriftLimits(psi=1e-9, distance=1e-9, missing=1e-9, outside=1e-9, new=1e-9, labels=1e-9)
"""Everything that is no chance is reported."""
CITIES = ["bern", "rome", "oslo", "riga"]
NAMES = pa.array([*CITIES, "rare"])
CODES = pa.array([f"c{number}" for number in range(40)])


def profile(values: Any, side: str = "input") -> Profile:
    """Of one column `x`, as an input or an output."""
    one = pa.record_batch({"x": values})
    other = pa.record_batch({"constant": pa.array([0] * one.num_rows)})
    return Profile.of(one, other) if side == "input" else Profile.of(other, one)


def compared(before: Any, now: Any, side: str = "input", limits: DriftLimits = LIMITS) -> Finding:
    """The finding of the column; it can be stored as JSON."""
    found = compare(profile(before, side), profile(now, side), limits)
    json.dumps([one.to_json() for one in found], allow_nan=False)
    assert [one.reasons for one in found if one.name != "x"] == [()]
    return next(one for one in found if one.name == "x")


def features(seed: int, rows: int = ROWS, shift: float = 0.0) -> Profile:
    """Ten inputs of several kinds and two outputs; `shift` moves one input by so many standard deviations."""
    r = np.random.default_rng(seed)
    score = r.beta(2, 5, rows)
    inputs = {
        "normal": r.normal(size=rows) + shift,
        "income": r.lognormal(3, 1, rows),
        "zeros": np.where(r.random(rows) < 0.9, 0.0, r.exponential(size=rows)),
        "visits": r.poisson(2, rows),
        "age": r.integers(18, 90, rows),
        "stars": r.integers(1, 6, rows),
        "city": NAMES.take(pa.array(np.searchsorted([0.4, 0.7, 0.9, 0.995], r.random(rows)))),
        "code": CODES.take(pa.array(r.integers(0, 40, rows))),
        "is_new": r.random(rows) < 0.02,
        "holes": pa.array(r.normal(size=rows), mask=r.random(rows) < 0.1),
    }
    outputs = {"score": score, "label": NAMES.take(pa.array((score > 0.3).astype(int)))}
    return Profile.of(pa.record_batch(inputs), pa.record_batch(outputs))


def drifted(before: Profile, now: Profile) -> list[str]:
    return [one.name for one in compare(before, now, LIMITS) if one.reasons]


def test_unchanged_data_raise_no_alarm_in_99_of_100_runs() -> None:
    runs = (features(seed) for seed in range(201))
    alarms = [found for before, now in pairwise(runs) if (found := drifted(before, now))]
    assert len(alarms) < 2, alarms


@pytest.mark.wide
@pytest.mark.parametrize(("before", "now"), [(100, 100), (100, 5_000), (20_000, 500), (20_000, 20_000)])
def test_unchanged_data_raise_no_alarm_whatever_the_sizes_of_the_samples(before: int, now: int) -> None:
    limits = DriftLimits(min_rows=100)
    for seed in range(30):
        found = compare(features(2 * seed, before), features(2 * seed + 1, now), limits)
        assert [(seed, one.name, one.reasons) for one in found if one.reasons] == []


def test_a_shift_of_half_a_standard_deviation_in_one_of_ten_inputs_is_always_found() -> None:
    reference = features(0)
    for seed in range(1, 51):
        assert drifted(reference, features(seed, shift=0.5)) == ["normal"]


def test_the_distance_of_numbers_is_scipys_wasserstein_distance_over_the_deviation() -> None:
    r = np.random.default_rng(1)
    # so few that the sketches keep every number
    before, now = r.normal(size=380), r.exponential(size=390)
    found = compared(before, now, limits=DriftLimits(min_rows=100))
    assert found.distance == pytest.approx(wasserstein_distance(before, now) / before.std(ddof=1))

    large, other = r.normal(size=50_000), r.normal(0.3, 1.2, size=40_000)
    exact = wasserstein_distance(large, other) / large.std(ddof=1)
    assert compared(large, other).distance == pytest.approx(exact, abs=0.03)


def test_the_distance_of_categories_is_scipys_jensen_shannon_distance() -> None:
    before, now = np.repeat(CITIES, [400, 300, 200, 100]), np.repeat([*CITIES[1:], "york"], [100, 500, 300, 300])
    p, q = np.array([400, 300, 200, 100, 0]) / 1000, np.array([0, 100, 500, 300, 300]) / 1200
    assert compared(before, now).distance == pytest.approx(jensenshannon(p, q, base=2))


def test_the_stability_index_is_the_sum_over_bins_and_its_chance_is_scipys() -> None:
    p, q = np.array([120, 80, 100, 200]), np.array([90, 110, 130, 170])
    smooth_p, smooth_q = ((side + 0.5) / (side + 0.5).sum() for side in (p, q))
    expected = sum((b - a) * np.log(b / a) for a, b in zip(smooth_p, smooth_q, strict=True))
    psi, chance = comparison._psi(p, q)
    assert psi == pytest.approx(expected)
    assert chance == pytest.approx(chi2.sf(psi / (2 / 500), df=3))


def test_chance_in_numbers_is_decided_as_by_kolmogorov_and_smirnov() -> None:
    r = np.random.default_rng(2)
    before, now = (profile(r.normal(mean, size=390)).inputs["x"] for mean in (0, 0.15))
    points, ours, theirs = comparison._cumulative(before, now)
    largest = float(np.abs(ours - theirs).max())
    assert largest == pytest.approx(ks_2samp(*(np.array([v for v, _ in c.numbers]) for c in (before, now))).statistic)
    chance = kstwobign.sf(largest * np.sqrt(390 / 2))
    assert comparison._is_no_chance(before, now, largest, chance * 1.01)
    assert not comparison._is_no_chance(before, now, largest, chance * 0.99)
    assert len(points) == 780


@pytest.mark.parametrize("side", ["input", "output"])
def test_the_same_values_have_no_distance(side: str) -> None:
    for values in ([1.5] * ROWS, [""] * ROWS, [True] * ROWS, [None] * ROWS, list(range(ROWS))):
        found = compared(pa.array(values), pa.array(values), side, SENSITIVE)
        assert found.reasons == ()
        assert found.psi == pytest.approx(0, abs=1e-3) if values[0] is not None else found.psi is None


MANY = np.random.default_rng(3).normal(size=ROWS)
NOTHING = pa.nulls(ROWS, pa.float64())
OFTEN = np.arange(ROWS) % 5 == 0
HALF = ["yes", "no"] * (ROWS // 2)


@pytest.mark.parametrize(
    ("before", "now", "reason"),
    [
        (MANY, NOTHING, "100.0% of the rows have no value, 0.0% before"),
        (NOTHING, MANY, "0.0% of the rows have no value, 100.0% before"),
        (MANY, np.where(OFTEN, np.nan, MANY), "20.0% of the rows have no value, 0.0% before"),
        (MANY, np.where(OFTEN, -np.inf, MANY), "20.0% are infinite, 0.0% before"),
        ([3.0] * ROWS, [4.0] * ROWS, "100.0% are outside of 3 to 3"),
        (MANY, MANY + 0.5, "moved by 0."),
        (MANY, np.where(OFTEN, 99.0, MANY), "20.0% are outside of "),
        (HALF, ["yes", ""] * 500, "50.0% have values that the reference does not have: the empty text"),
        (HALF, ["yes", "perhaps"] * 500, "50.0% have values that the reference does not have: perhaps"),
        (HALF, [f"{i:03}" for i in range(ROWS)], "it has more than 50 different values, 2 before"),
        ([True, False] * 500, [True] * ROWS, "Jensen-Shannon distance"),
        (["1", "2"] * 500, [1, 2] * 500, "its type is int64, and string before"),
        ([[1.0], [2.0]] * 500, [[1.0, 2.0, 3.0]] * ROWS, None),
    ],
)  # fmt: skip
def test_each_kind_of_difference_has_its_reason(before: Any, now: Any, reason: str | None) -> None:
    if reason is None:  # an array has two measures
        found = compare(profile(pa.array(before)), profile(pa.array(now)), LIMITS)
        assert [one.name for one in found if one.reasons] == ["x (length)", "x (norm)"]
        return
    assert any(one.startswith(reason) for one in compared(before, now).reasons)
    assert compared(now, now).reasons == ()


def texts(known: int, tail: float, seed: int, samples: int = 1) -> Profile:
    """A text with so many usual values, and a share of rows with a value that no other row has."""
    r = np.random.default_rng(seed)
    whole = Profile()
    for sample in range(samples):
        values = [f"v{n}" for n in r.integers(0, known, ROWS)] if known else [""] * ROWS
        own = np.flatnonzero(r.random(ROWS) < tail)
        for position in own:
            values[position] = f"own {seed} {sample} {position}"
        whole.merge(profile(pa.array(values)))
    return whole


@pytest.mark.parametrize(
    ("before", "now", "is_drift"),
    [
        ((10, 0.0), (0, 1.0, 1), True),
        ((10, 0.0), (0, 1.0, 40), True),
        ((40, 0.0), (0, 1.0, 1), True),
        ((40, 0.0), (0, 1.0, 40), True),
        ((40, 0.0), (40, 0.2, 3), True),
        ((20, 0.004), (20, 0.004, 60), False),  # a rare tail: more than any sketch holds in all samples together
        ((45, 0.004), (45, 0.006, 4), False),
    ],
)
def test_a_text_that_is_no_category_any_more_is_reported_and_a_rare_tail_not(
    before: tuple[int, float], now: tuple[int, float, int], is_drift: bool
) -> None:
    reference, (known, tail, samples) = texts(*before, seed=1), now
    found = texts(known, tail, 2, samples)
    column = Profile.from_bytes(found.to_bytes()).inputs["x"]
    assert not column.has_few_values
    (reasons,) = [
        one.reasons for one in compare(reference, found, DriftLimits(psi=9, distance=9, outside=9)) if one.name == "x"
    ]
    assert any("different values" in reason for reason in reasons) == is_drift


def test_the_share_of_a_label_is_compared_where_it_is_an_output() -> None:
    before, now = [0] * 700 + [1] * 300, [0] * 550 + [1] * 450
    assert compared(before, now, "output").reasons == (
        "0 is 55.0% of the predictions, 70.0% before",
        "1 is 45.0% of the predictions, 30.0% before",
    )


@pytest.mark.parametrize("kind", [pa.timestamp("us"), pa.timestamp("s"), pa.date32(), pa.date64()])
def test_a_date_for_ever_stops_no_profile(kind: pa.DataType) -> None:
    ends = pa.array([dt.datetime(9999, 12, 31) if i % 2 else None for i in range(ROWS)]).cast(kind)
    assert profile(ends).inputs["x"].nulls == ROWS // 2
    assert compared(ends, ends).reasons == ()


@pytest.mark.parametrize("kind", [pa.timestamp("us", "UTC"), pa.timestamp("ns"), pa.date32()])
def test_a_time_that_moves_on_is_no_drift_and_one_that_is_missing_is(kind: pa.DataType) -> None:
    before = pa.array([dt.datetime(2024, 1, 1) + dt.timedelta(hours=i) for i in range(ROWS)]).cast(kind, safe=False)
    now = pa.array([dt.datetime(2026, 1, 1) + dt.timedelta(hours=i) for i in range(ROWS)]).cast(kind, safe=False)
    assert compared(before, now).reasons == ()
    holes = pa.array([None if i % 5 == 0 else value for i, value in enumerate(now.to_pylist())], kind)
    assert compared(before, holes).reasons == ("20.0% of the rows have no value, 0.0% before",)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ([2**60 + i for i in range(ROWS)], [2**60 + 2**55 + i for i in range(ROWS)]),
        ([1.7e308] * ROWS, [-1.7e308] * ROWS),
        (MANY * 1e300, MANY * -2e300 + 1e301),
        ([-np.finfo(float).max] * ROWS, MANY),
    ],
)
def test_the_largest_numbers_are_compared(before: Sequence[float], now: Sequence[float]) -> None:
    assert compared(before, now).reasons
    assert compared(before, before).reasons == ()


@pytest.mark.parametrize(
    "values",
    [
        pa.array([dt.time(i % 24) for i in range(ROWS)]),
        pa.array([dt.timedelta(hours=i) for i in range(ROWS)]),
        pa.array([b"bytes"] * ROWS),
        pa.array(HALF).dictionary_encode(),
        pa.array([["a", None]] * ROWS),
        pa.array([[[1.0]]] * ROWS),
        pa.array([[1, None], None] * (ROWS // 2)),
        pa.array([[1.0, 2.0]] * ROWS, pa.list_(pa.float32(), 2)),
        pa.array([{"a": 1}] * ROWS),
        pa.nulls(ROWS),
        pa.array([i % 7 for i in range(ROWS)], pa.decimal128(20, 2)),
    ],
    ids=lambda values: str(values.type),
)
def test_a_column_of_every_type_has_a_profile_and_equals_itself(values: pa.Array) -> None:
    again = Profile.from_bytes(profile(values).to_bytes())
    assert all(one.reasons == () for one in compare(again, profile(values), SENSITIVE))


def test_too_few_rows_are_not_compared_and_the_reason_names_the_limit() -> None:
    few, enough = profile([1.0] * 999), profile([1.0] * 1000)
    assert why_not(enough, few, LIMITS) == "the sample has 999 rows, too few to compare: min_rows = 1,000"
    assert "the reference has 999 rows" in str(why_not(few, enough, LIMITS))
    with pytest.raises(ValueError, match="min_rows"):
        compare(enough, few, LIMITS)
