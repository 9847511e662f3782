"""A query's columns reach the right inputs of a model, or the mistake is shown before anything runs."""

import time
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorebeat.core.errors import InputError, ModelError, SignatureError
from scorebeat.models.arrow_types import TYPES
from scorebeat.models.contract import Input, Signature, Trained
from scorebeat.models.inputs.binding import bind

Y = pa.schema([("y", pa.float64())])


def wants(*inputs: Input) -> Signature:
    return Signature(inputs, Y)


def rows(**columns: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(columns)


A, B = Input("a", pa.float64()), Input("b", pa.float64())
PAIR = Input("features", pa.float32(), 2)


def test_inputs_are_found_by_name_in_any_order_and_surplus_columns_are_left_out() -> None:
    source = rows(b=pa.array([2.0]), other=pa.array(["x"]), a=pa.array([1.0]))

    binding = bind(wants(A, B), source.schema)

    assert binding.columns == ("a", "b")
    assert binding.apply(source.select(["b", "a"])).to_pylist() == [{"a": 1.0, "b": 2.0}]


def test_every_mismatch_is_shown_at_once_beside_the_columns_of_the_query() -> None:
    query = pa.schema([("A", pa.float64()), ("b", pa.string()), ("note", pa.date32())])

    with pytest.raises(SignatureError) as refused:
        bind(wants(A, B, Input("c", pa.int64())), query)

    shown = str(refused.value)
    assert "a: the query has no such column" in shown
    assert "b: string cannot become double" in shown
    assert "c: the query has no such column" in shown
    assert "a float64         A double" in shown


@pytest.mark.parametrize("found", [pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.bool_()])
@pytest.mark.parametrize("wanted", [pa.float32(), pa.float64()])
def test_any_number_and_truth_value_becomes_a_float(found: pa.DataType, wanted: pa.DataType) -> None:
    column = pa.array([1, None, 0], pa.int16()).cast(found)
    binding = bind(wants(Input("a", wanted)), pa.schema([("a", found)]))

    assert binding.apply(rows(a=column)).column("a").equals(pa.array([1, None, 0], wanted))


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (pa.string(), pa.float64()),
        (pa.float64(), pa.int64()),
        (pa.int64(), pa.int32()),
        (pa.int64(), pa.bool_()),
        (pa.int64(), pa.string()),
        (pa.timestamp("us"), pa.date32()),
        (pa.list_(pa.float64()), pa.float64()),
        (pa.date32(), pa.float64()),
    ],
)
def test_a_conversion_that_loses_or_guesses_is_refused(found: pa.DataType, wanted: pa.DataType) -> None:
    with pytest.raises(SignatureError, match="cannot become"):
        bind(wants(Input("a", wanted), B), pa.schema([("a", found), ("b", pa.float64())]))


@pytest.mark.parametrize(
    "array_type",
    [pa.list_(pa.float64()), pa.large_list(pa.int32()), pa.list_(pa.float32(), 2), pa.list_(pa.bool_())],
    ids=str,
)
def test_one_array_column_feeds_one_array_or_as_many_inputs(array_type: pa.DataType) -> None:
    values = pa.array([[9, 9], [0, 1], [1, None], [1, 1]], pa.list_(pa.int8())).cast(array_type)
    source = rows(values=values).slice(1)  # a slice has offsets of its own

    whole = bind(wants(PAIR), source.schema).apply(source)
    spread = bind(wants(A, B), source.schema).apply(source)

    assert whole.schema == wants(PAIR).columns
    assert whole.column(0).to_pylist() == [[0, 1], [1, None], [1, 1]]
    assert spread.schema == wants(A, B).columns
    assert spread.to_pydict() == {"a": [0, 1, 1], "b": [1, None, 1]}
    assert bind(wants(A, B), source.schema).columns == ("values",)


def test_arrays_of_another_length_are_named_by_row() -> None:
    source = rows(values=pa.array([[1.0, 2.0], [1.0], None, []]))

    for signature in (wants(PAIR), wants(A, B)):
        with pytest.raises(InputError, match=r"3 of 4 rows do not: row 1 \(1\), row 2 \(NULL\), row 3 \(0\)"):
            bind(signature, source.schema).apply(source)


def test_an_array_that_is_ambiguous_or_surely_of_another_length_is_refused() -> None:
    two = pa.schema([("v", pa.list_(pa.float64())), ("w", pa.list_(pa.float64()))])
    three = pa.schema([("v", pa.list_(pa.float64(), 3))])

    for query in (two, three):
        with pytest.raises(SignatureError):
            bind(wants(PAIR), query)


def test_a_batch_without_rows_has_the_models_columns() -> None:
    empty = rows(values=pa.array([], pa.list_(pa.float64())))

    assert bind(wants(PAIR), empty.schema).apply(empty).schema == wants(PAIR).columns
    assert bind(wants(A, B), empty.schema).apply(empty).num_rows == 0


@given(st.lists(st.lists(st.floats(allow_nan=False), min_size=3, max_size=3)), st.integers(0, 5))
def test_elements_keep_their_row_and_their_position(table: list[list[float]], skip: int) -> None:
    source = rows(v=pa.array(table, pa.list_(pa.float64()))).slice(min(skip, len(table)))
    inputs = [Input(name, pa.float64()) for name in "abc"]

    fed = bind(wants(*inputs), source.schema).apply(source)

    assert [list(row.values()) for row in fed.to_pylist()] == table[skip:]


def test_a_signature_survives_its_json() -> None:
    inputs = tuple(Input(f"i{n}", t, n % 3 or None) for n, t in enumerate(TYPES))
    signature = Signature(inputs, pa.schema([(f"o{n}", t) for n, t in enumerate(TYPES)]))

    assert Signature.from_json(signature.to_json()) == signature


WRITTEN = ["0.1", "45.3", "1e-45", "3.4e+38", "-0", "16777217", "nan", "-inf", None]
"""Values of the type real, as they are written."""


def test_a_real_is_the_number_that_is_written() -> None:
    source = rows(
        a=pa.array(WRITTEN).cast(pa.float32()),
        b=pa.array([[each, "0.3"] for each in WRITTEN], pa.list_(pa.string())).cast(pa.list_(pa.float32())),
    )

    fed = bind(wants(A, Input("b", pa.float64(), 2)), source.schema).apply(source)

    expected = [None if each is None else float(each) for each in WRITTEN]
    expected[WRITTEN.index("16777217")] = 16777216.0  # the type has no other so near
    assert repr(fed.column("a").to_pylist()) == repr(expected)
    assert repr(fed.column("b").to_pylist()) == repr([[each, 0.3] for each in expected])


def test_elements_of_a_real_array_are_the_numbers_that_are_written() -> None:
    source = rows(v=pa.array([[0.1, 0.7], [45.3, None]], pa.list_(pa.float32())))

    fed = bind(wants(A, B), source.schema).apply(source)

    assert fed.to_pydict() == {"a": [0.1, 45.3], "b": [0.7, None]}


EXACT = Input("a", pa.float64(), trained=Trained(exact=True))


@pytest.mark.parametrize("value", [2**53 + 1, -(2**53) - 1, 2**63 - 1])
def test_a_whole_number_that_would_be_rounded_is_refused_if_the_model_may_notice(value: int) -> None:
    source = rows(a=pa.array([1, value]))

    with pytest.raises(InputError, match=rf"--inputs a:int64.*a::float8.*{value}"):
        bind(wants(EXACT), source.schema).apply(source)

    assert bind(wants(A), source.schema).apply(source).column("a")[1].as_py() == float(value)
    fits = rows(a=pa.array([2**53, -(2**53), None]))
    assert bind(wants(EXACT), fits.schema).apply(fits).column("a").to_pylist() == [2.0**53, -(2.0**53), None]


@pytest.mark.parametrize(
    "data", [{}, {"inputs": [], "outputs": [{"name": "y", "type": "blob"}]}, {"inputs": [1], "outputs": []}, None]
)
def test_a_text_that_is_no_signature_is_refused(data: Any) -> None:
    with pytest.raises(ModelError):
        Signature.from_json(data)


def test_a_type_outside_the_closed_set_is_not_stored() -> None:
    with pytest.raises(ModelError, match="decimal128"):
        Signature((Input("a", pa.decimal128(3, 1)),), Y).to_json()


def test_binding_makes_no_python_object_for_a_row() -> None:
    flat = pa.array(range(400_000), pa.float64())
    source = rows(v=pa.FixedSizeListArray.from_arrays(flat, 4).cast(pa.list_(pa.float64())))
    binding = bind(wants(*(Input(name, pa.float64()) for name in "abcd")), source.schema)

    start = time.process_time()
    fed = binding.apply(source)
    seconds = time.process_time() - start

    assert fed.column("d")[-1].as_py() == 399_999
    # vectorised it takes 2 ms, a Python object a value some 100 ms
    assert seconds < 0.05
