"""No output of another type, length or name than the prediction table's gets past the check."""

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorebeat.core.errors import NonsenseError, OutputError
from scorebeat.models.arrow_types import TYPES, type_named
from scorebeat.models.outputs import checks

DAY = dt.date(2024, 2, 29)
TIMESTAMP = dt.datetime(2024, 2, 29, 12, 30)

# values of every type that a model might return, also those that no table can hold
VALUES: dict[pa.DataType, list[Any]] = {
    pa.int8(): [1, None, -3],
    pa.int16(): [1, None, -3],
    pa.int32(): [1, None, -3],
    pa.int64(): [1, None, 2**53 + 1],
    pa.uint8(): [1, None, 3],
    pa.uint64(): [1, None, 2**63],
    pa.float16(): [1.5, None, -2.0],
    pa.float32(): [1.5, None, float("inf")],
    pa.float64(): [0.1, None, float("inf")],
    pa.bool_(): [True, None, False],
    pa.string(): ["a", None, ""],
    pa.large_string(): ["a", None, ""],
    pa.string_view(): ["a", None, ""],
    pa.dictionary(pa.int32(), pa.string()): ["a", None, "a"],
    pa.dictionary(pa.int8(), pa.int64()): [1, None, 2],
    pa.binary(): [b"a", None, b""],
    pa.date32(): [DAY, None, DAY],
    pa.date64(): [DAY, None, DAY],
    pa.timestamp("us"): [TIMESTAMP, None, TIMESTAMP],
    pa.timestamp("us", "UTC"): [TIMESTAMP, None, TIMESTAMP],
    pa.timestamp("ns"): [TIMESTAMP, None, TIMESTAMP],
    pa.timestamp("us", "Europe/Berlin"): [TIMESTAMP, None, TIMESTAMP],
    pa.decimal128(10, 2): [1, None, 2],
    pa.null(): [None, None, None],
    pa.list_(pa.float32()): [[1.5], None, []],
    pa.list_(pa.float64()): [[0.1], None, []],
    pa.list_(pa.int64()): [[1], None, []],
    pa.list_(pa.string()): [["a"], None, []],
    pa.large_list(pa.float32()): [[1.5], None, []],
    pa.list_(pa.float32(), 2): [[1.5, 2.5], None, [0.0, 1.0]],
    pa.struct([("a", pa.int64())]): [{"a": 1}, None, {"a": 2}],
}
LOSSLESS = {
    (pa.int16(), pa.int32()),
    (pa.int16(), pa.int64()),
    (pa.int32(), pa.int64()),
    (pa.float32(), pa.float64()),
    (pa.large_string(), pa.string()),
    (pa.string_view(), pa.string()),
    (pa.dictionary(pa.int32(), pa.string()), pa.string()),
    (pa.list_(pa.float32()), pa.list_(pa.float64())),
    (pa.large_list(pa.float32()), pa.list_(pa.float32())),
    (pa.large_list(pa.float32()), pa.list_(pa.float64())),
    (pa.list_(pa.float32(), 2), pa.list_(pa.float32())),
    (pa.list_(pa.float32(), 2), pa.list_(pa.float64())),
}


def batch(arrow_type: pa.DataType, name: str = "y") -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(VALUES[arrow_type], arrow_type)], names=[name])


@pytest.mark.parametrize("expected", TYPES, ids=str)
@pytest.mark.parametrize("found", VALUES, ids=str)
def test_a_column_of_another_type_is_equal_after_the_cast_or_refused(found: pa.DataType, expected: pa.DataType) -> None:
    schema = pa.schema([("y", expected)])
    if found == expected or (found, expected) in LOSSLESS:
        checked = checks.check(batch(found), schema, 3)

        assert checked.schema.equals(schema, check_metadata=True)
        assert checked.column("y").to_pylist() == batch(found).column("y").to_pylist()
    else:
        with pytest.raises(OutputError, match=r"'y' is .*, expected"):
            checks.check(batch(found), schema, 3)


def test_every_type_that_a_table_can_hold_is_in_the_matrix() -> None:
    assert set(TYPES) <= set(VALUES)


@pytest.mark.parametrize("rows", [0, 2, 4, 3_000_000])
def test_another_number_of_predictions_than_rows_is_refused(rows: int) -> None:
    with pytest.raises(OutputError, match=f"3 predictions for {rows} rows"):
        checks.check(batch(pa.int64()), pa.schema([("y", pa.int64())]), rows)


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"], ["a", "B"], ["a", "a"], []])
def test_missing_surplus_repeated_and_misspelt_columns_are_refused(names: list[str]) -> None:
    one = pa.array([1.0])
    found = pa.RecordBatch.from_arrays([one] * len(names), names=names)

    with pytest.raises(OutputError, match="expected a double, b double"):
        checks.check(found, pa.schema([("a", pa.float64()), ("b", pa.float64())]), found.num_rows)


def test_columns_in_another_order_are_matched_by_name() -> None:
    found = pa.RecordBatch.from_pydict({"b": [2.0], "a": ["x"]})
    schema = pa.schema([("a", pa.string()), ("b", pa.float64())])

    assert checks.check(found, schema, 1).to_pylist() == [{"a": "x", "b": 2.0}]


def test_a_null_is_refused_where_none_may_be() -> None:
    schema = pa.schema([pa.field("y", pa.int64(), nullable=False)])

    with pytest.raises(OutputError, match="1 NULLs"):
        checks.check(batch(pa.int64()), schema, 3)


@pytest.mark.parametrize("returned", [None, [1, 2, 3], pa.table({"y": [1, 2, 3]})])
def test_anything_but_a_record_batch_is_refused(returned: Any) -> None:
    with pytest.raises(OutputError, match="expected a RecordBatch"):
        checks.check(returned, pa.schema([("y", pa.int64())]), 3)


@given(st.lists(st.one_of(st.none(), st.floats(width=32, allow_nan=False)), max_size=50))
def test_widened_floats_keep_every_value(values: list[float | None]) -> None:
    found = pa.RecordBatch.from_arrays([pa.array(values, pa.float32())], names=["y"])

    checked = checks.check(found, pa.schema([("y", pa.float64())]), len(values))

    assert checked.column("y").to_pylist() == values


@pytest.mark.slow
@given(st.lists(st.one_of(st.none(), st.text()), max_size=50))
def test_dictionaries_become_the_same_texts(values: list[str | None]) -> None:
    coded = pa.array(values, pa.string()).dictionary_encode()
    found = pa.RecordBatch.from_arrays([coded], names=["y"])

    checked = checks.check(found, pa.schema([("y", pa.string())]), len(values))

    assert checked.column("y").to_pylist() == values


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["float32", "float64", "list<float32>", "list<float64>"])
def test_nan_and_infinity_are_nonsense_alone_and_within_a_list(name: str, wrong: float) -> None:
    good: list[Any] = [[1.0, None], None, []] if "list" in name else [1.0, None]
    bad: list[Any] = [[2.0, wrong]] if "list" in name else [wrong]

    checks.check_finite(pa.record_batch({"out": pa.array(good, type_named(name))}))
    with pytest.raises(NonsenseError, match=r"out \(1\)"):
        checks.check_finite(pa.record_batch({"out": pa.array(good + bad, type_named(name))}))
