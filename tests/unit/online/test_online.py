"""Rows as JSON has them become the model's inputs, or a message names the row and the column."""

from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pytest

from scorebeat.core.errors import ModelError, NonsenseError, SignatureError
from scorebeat.models.arrow_types import TYPES, type_name, type_named
from scorebeat.models.contract import Input, Signature
from scorebeat.models.inputs.matrix import no_nulls
from scorebeat.online import plain_rows


def wants(**inputs: str) -> Signature:
    found = []
    for name, kind in inputs.items():
        scalar, _, length = kind.partition("*")
        found.append(Input(name, type_named(scalar), int(length) if length else None))
    return Signature(tuple(found), pa.schema([("sum", pa.float64())]))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("float64", [1, 2.5, True, None]),
        ("float32", [0.5, -3]),
        ("int16", [-32768, 32767, True, None]),
        ("int64", [2**63 - 1]),
        ("bool", [True, False, None]),
        ("string", ["", "na\u00efve", "\U0001f600", None]),
        ("date32", ["2026-01-31", None]),
        ("timestamp[us]", ["2026-01-31T12:00:00.000001"]),
        ("timestamp[us, UTC]", ["2026-01-31T13:00:00+01:00", "2026-01-31T12:00:00Z"]),
        ("list<float32>", [[1, None, 2.5], [], None]),
        ("float64*2", [[1, None], [2.5, 3]]),
    ],
)
def test_values_of_each_type_become_the_column_of_the_input(kind: str, values: list[Any]) -> None:
    signature = wants(x=kind)

    bound = plain_rows.bind(signature, [{"x": value} for value in values])

    assert bound.schema.equals(signature.columns)
    assert bound["x"].to_pylist() == [expected(kind, value) for value in values]


def expected(kind: str, value: Any) -> Any:
    if kind.startswith("timestamp"):
        return datetime.fromisoformat(value)
    return date.fromisoformat(value) if kind == "date32" and value else value


def test_every_type_that_a_signature_may_name_takes_null() -> None:
    signature = wants(**{f"c{n}": type_name(each) for n, each in enumerate(TYPES)})

    bound = plain_rows.bind(signature, [dict.fromkeys(signature.columns.names)])

    assert bound.schema.equals(signature.columns)
    assert all(column.null_count == 1 for column in bound.columns)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("float64", "1", "row 1: x is '1', expected a number"),
        ("float64", [1], "row 1: x is [1], expected a number"),
        ("float64", 10**400, "row 1: x is 1000000000"),
        ("int64", 3.0, "row 1: x is 3.0, expected a whole number (int64)"),
        ("int16", 40_000, "row 1: x is 40000, expected a whole number (int16)"),
        ("int64", 2**63, "row 1: x is 9223372036854775808, expected a whole number (int64)"),
        ("bool", 1, "row 1: x is 1, expected true or false"),
        ("string", 5, "row 1: x is 5, expected text"),
        ("string", {"a": 1}, "row 1: x is {'a': 1}, expected text"),
        ("string", "\ud800", "row 1: x is '\\ud800', expected text"),
        ("date32", "31.1.2026", "row 1: x is '31.1.2026', expected a date, such as"),
        ("date32", 7, "row 1: x is 7, expected a date"),
        ("timestamp[us]", "2026-01-31T12:00:00Z", "expected a timestamp without time zone"),
        ("timestamp[us, UTC]", "2026-01-31T12:00:00", "expected a timestamp with its time zone"),
        ("float64*2", None, "row 1: x is None, expected an array of 2 numbers"),
        ("float64*2", [1, 2, 3], "row 1: x has 3 elements, expected 2"),
        ("float64*2", [1, "b"], "row 1: x[1] is 'b', expected a number"),
        ("list<float64>", "abc", "row 1: x is 'abc', expected an array of numbers"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_row_and_column(kind: str, value: Any, message: str) -> None:
    good = [1, 2] if kind in ("float64*2", "list<float64>") else None

    with pytest.raises(SignatureError) as error:
        plain_rows.bind(wants(x=kind), [{"x": good}, {"x": value}])

    assert message in str(error.value)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"price": 1.0}, "row 0: count is missing. The model wants price float64, count int64"),
        ({}, "row 0: price is missing; count is missing."),
        ({"price": 1.0, "cuont": 1}, "count is missing; 'cuont' is no input of the model. The"),
        ({"price": 1.0, "count": 1, "id": 7}, "'id' is no input of the model."),
        ([1.0, 2], "row 0 is [1.0, 2], expected an object with price float64, count int64"),
        (None, "row 0 is None, expected an object"),
        ({"values": [1.0]}, "row 0: values has 1 elements, the model wants 2"),
    ],
)
def test_missing_and_unknown_columns_are_named(row: Any, message: str) -> None:
    with pytest.raises(SignatureError) as error:
        plain_rows.bind(wants(price="float64", count="int64"), [row])

    assert message in str(error.value)


def test_one_array_feeds_all_inputs_or_the_only_array() -> None:
    spread = plain_rows.bind(wants(price="float64", count="int64"), [{"values": [1.5, 2]}, {"price": 3, "count": 4}])
    whole = plain_rows.bind(wants(features="float64*2"), [{"values": [1.5, 2]}, {"features": [3, 4]}])

    assert spread.to_pylist() == [{"price": 1.5, "count": 2}, {"price": 3.0, "count": 4}]
    assert whole.to_pylist() == [{"features": [1.5, 2]}, {"features": [3, 4]}]


class Sum:
    outputs = pa.schema([("sum", pa.float64())])

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        sums = [sum(row.values()) for row in rows.to_pylist()]
        return pa.RecordBatch.from_arrays([pa.array(sums, pa.float64())], names=["sum"])


def test_outputs_come_in_the_order_of_the_rows() -> None:
    signature = wants(a="float64", b="float64")

    assert plain_rows.predict(Sum(), signature, [{"b": 2, "a": 1}, {"a": 3, "b": 4}]) == [{"sum": 3.0}, {"sum": 7.0}]
    assert plain_rows.predict(Sum(), signature, []) == []


def test_an_output_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(NonsenseError, match=r"sum \(1\)"):
        plain_rows.predict(Sum(), wants(a="float64"), [{"a": 1}, {"a": float("nan")}])


class Picky:
    """Raises for words that it does not know, and takes no NULL."""

    outputs = pa.schema([("n", pa.int64())])

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        no_nulls(rows)
        known = {"a": 1, "b": 2}
        return pa.RecordBatch.from_pydict(
            {"n": [known[word] for word in rows["word"].to_pylist()]}, schema=self.outputs
        )


@pytest.mark.parametrize("at", range(5))
@pytest.mark.parametrize(
    ("word", "kind", "message"),
    [
        ("zz", ModelError, "row {}: the model raised KeyError: 'zz'. Nothing was scored"),
        (None, SignatureError, "row {}: word is null, which the model does not take"),
    ],
)
def test_the_row_that_a_model_fails_on_is_named(at: int, word: str | None, kind: type[Exception], message: str) -> None:
    rows: list[dict[str, Any]] = [{"word": "a"} for _ in range(5)]
    rows[at]["word"] = word

    with pytest.raises(kind) as error:
        plain_rows.predict(Picky(), wants(word="string"), rows)

    assert str(error.value) == message.format(at)


class Crowded:
    outputs = pa.schema([("n", pa.int64())])

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        if len(rows) > 1:
            raise ValueError("one at\na time")
        return pa.RecordBatch.from_pydict({"n": [1] * len(rows)}, schema=self.outputs)


def test_a_failure_of_the_rows_together_blames_none() -> None:
    with pytest.raises(ModelError, match=r"^4 rows together: the model raised ValueError: one at a time\."):
        plain_rows.predict(Crowded(), wants(word="string"), [{"word": "a"}] * 4)
