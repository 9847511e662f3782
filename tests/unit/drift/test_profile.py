"""A profile that was merged is that of all rows, and names no text that few rows share."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from scorebeat.drift.profile import FEW, MOST_VALUES, SHARED_BY, Profile

ROWS = 3000


def of(rows: dict[str, pa.Array]) -> Profile:
    batch = pa.record_batch(rows)
    return Profile.of(batch, batch.slice(0, 0))


@pytest.fixture(scope="module")
def table() -> dict[str, pa.Array]:
    r = np.random.default_rng(1)
    numbers = np.where(r.random(ROWS) < 0.05, np.nan, r.lognormal(size=ROWS))
    numbers[::100] = np.inf
    return {
        "number": pa.array(numbers, mask=r.random(ROWS) < 0.1),
        "city": pa.array(r.choice(["bern", "rome", "oslo"], ROWS)),
        "flag": pa.array(r.random(ROWS) < 0.3),
        "id": pa.array([f"id {i}" for i in range(ROWS)]),
        "vector": pa.array([[float(i), 1.0] for i in range(ROWS)]),
    }


@pytest.mark.parametrize("parts", [1, 7, 60])
def test_merged_profiles_have_the_counts_means_and_categories_of_all_rows(
    table: dict[str, pa.Array], parts: int
) -> None:
    whole = pa.record_batch(table)
    cuts = np.linspace(0, ROWS, parts + 1).astype(int)
    merged = Profile()
    for first, last in pairwise(cuts):
        piece = whole.slice(first, last - first)
        merged.merge(Profile.from_bytes(Profile.of(piece, piece.slice(0, 0)).to_bytes()))

    values = table["number"].to_numpy(zero_copy_only=False)
    finite = values[np.isfinite(values)]
    number = merged.inputs["number"]
    assert (number.rows, number.nulls) == (ROWS, table["number"].null_count)
    nans = int(np.isnan(table["number"].drop_null().to_numpy()).sum())
    assert (number.nans, number.infinite, number.numbers.n) == (nans, int(np.isinf(values).sum()), len(finite))
    assert number.mean == pytest.approx(finite.mean())
    assert number.deviation == pytest.approx(finite.std(ddof=1))
    assert (number.numbers.get_min_value(), number.numbers.get_max_value()) == (finite.min(), finite.max())
    assert number.quantiles([0.1, 0.5, 0.9]) == pytest.approx(np.quantile(finite, [0.1, 0.5, 0.9]), rel=0.1)

    for name in ("city", "flag"):
        column = merged.inputs[name]
        seen = {column.name(label): count for label, count in column.counts().items()}
        counted = (pair.as_py() for pair in table[name].value_counts())
        assert seen == {str(pair["values"]).lower(): pair["counts"] for pair in counted}
    assert merged.inputs["id"].counts() == {} or parts == 60
    assert merged.inputs["vector (norm)"].numbers.get_max_value() == pytest.approx(np.hypot(ROWS - 1, 1))
    assert merged.inputs["vector (length)"].mean == 2


def test_categories_are_counted_exactly_up_to_the_limit_and_not_at_all_beyond() -> None:
    merged = Profile()
    for part in range(4):
        merged.merge(of({"x": pa.array([f"c{part * FEW + i}" for i in range(FEW)] * 3)}))
        counts = merged.inputs["x"].counts()
        if (part + 1) * FEW <= MOST_VALUES:
            assert sorted(counts.values()) == [3] * FEW * (part + 1)
        else:
            assert (counts, merged.inputs["x"].has_few_values) == ({}, False)


def test_a_text_is_stored_only_if_enough_rows_of_one_sample_share_it() -> None:
    merged = Profile()
    for _ in range(3):
        merged.merge(of({"x": pa.array(["open"] * SHARED_BY + ["secret"] * (SHARED_BY - 1) + ["l" * 65] * 20)}))
    stored = merged.to_bytes()
    assert (b"open" in stored, b"secret" in stored, b"lll" in stored) == (True, False, False)
    column = merged.inputs["x"]
    assert sorted(column.counts().values()) == [12, 15, 60]
    assert sum(column.name(label).startswith("#") for label in column.counts()) == 2


def test_a_stored_profile_is_read_as_it_was() -> None:
    profile = of({"x": pa.array([1.5, None, 2.5]), "ß": pa.array(["a", "b", "a"])})
    again = Profile.from_bytes(profile.to_bytes())
    assert again.to_bytes() == profile.to_bytes()
    assert (again.rows, again.inputs["x"].nulls, again.inputs["x"].mean) == (3, 1, 2.0)


def test_long_texts_are_known_by_their_lengths_alone() -> None:
    texts = pa.array(["x" * 2_000, "short"] * 10)
    column = Profile.of(pa.record_batch({"text": texts}), pa.record_batch({"label": texts})).inputs["text"]
    assert (column.counts(), column.names) == ({}, {})
    assert column.numbers.get_max_value() == 2_000
