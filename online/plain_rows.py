"""Rows of plain values, as JSON has them, scored by the contract that scores batches."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from math import isfinite
from numbers import Integral, Real
from typing import Any

import pyarrow as pa

from scorebeat.core.errors import InputError, ModelError, ScorebeatError, SignatureError
from scorebeat.models.arrow_types import element_type
from scorebeat.models.contract import Input, Model, Signature
from scorebeat.models.formats.shared.refusals import error_summary
from scorebeat.models.inputs import binding
from scorebeat.models.outputs import checks
from scorebeat.models.scoring import score_rows

Rows = Sequence[Mapping[str, Any]]


def predict(model: Model, signature: Signature, rows: Rows) -> list[dict[str, Any]]:
    """One dict of outputs a row, in the rows' order.

    Raises SignatureError naming row and column for values that are no inputs or that the model does not take,
    ModelError naming the row for which it failed, OutputError when it breaks its contract, and NonsenseError
    for NaN and infinity.
    """
    outputs: list[dict[str, Any]] = _scored(model, bind(signature, rows)).to_pylist()
    return outputs


def predict_columns(model: Model, signature: Signature, rows: pa.RecordBatch) -> pa.RecordBatch:
    """The outputs for columns in the types of a query, bound as those of a batch; as many rows, in their order.

    Raises what `predict` does.
    """
    return _scored(model, binding.bind(signature, rows.schema).apply(rows))


def _scored(model: Model, rows: pa.RecordBatch) -> pa.RecordBatch:
    try:
        scored = score_rows.predict(model, rows)
    except InputError as error:
        raise _refusal(rows, *score_rows.find_failing_row(model, rows, error)) from error
    except ScorebeatError:
        raise
    except Exception as error:  # the model's own code
        index, own = score_rows.find_failing_row(model, rows, error)
        where = f"{rows.num_rows} rows together" if index is None else f"row {index}"
        raise ModelError(f"{where}: the model raised {error_summary(own)}. Nothing was scored") from error
    checks.check_finite(scored)
    return scored


def _refusal(rows: pa.RecordBatch, index: int | None, error: Exception) -> SignatureError:
    if index is None:
        return SignatureError(str(error))
    if not isinstance(error, InputError) or not error.columns:
        return SignatureError(f"row {index}: {error}")
    row = rows.slice(index, 1).to_pylist()[0]
    values = ", ".join(f"{name} is {'null' if row[name] is None else _shown(row[name])}" for name in error.columns[:8])
    raised = f"the model raised {error.cause}; " if error.cause else ""
    return SignatureError(f"row {index}: {raised}{values}, which the model does not take")


def bind(signature: Signature, rows: Rows) -> pa.RecordBatch:
    """The model's inputs for these rows, numbered from 0 in messages.

    Each row names each input, and nothing else; or it has one array alone, whatever its name, that feeds the only
    array input, or as many inputs as it has elements. None is NULL. Raises SignatureError.
    """
    named = [_named(row, index, signature.inputs) for index, row in enumerate(rows)]
    arrays = [
        pa.array([_checked(wanted, row[wanted.name], index) for index, row in enumerate(named)], wanted.column_type)
        for wanted in signature.inputs
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=signature.columns)


def _named(row: object, index: int, inputs: tuple[Input, ...]) -> Mapping[str, Any]:
    if not isinstance(row, Mapping):
        raise SignatureError(f"row {index} is {_shown(row)}, expected an object with {_names(inputs)}")
    names = [i.name for i in inputs]
    if len(row) == 1 and not row.keys() & set(names):
        row = _spread(row, index, inputs)
    problems = [f"{name} is missing" for name in names if name not in row]
    problems += [f"{name!r} is no input of the model" for name in row if name not in names]
    if problems:
        raise SignatureError(f"row {index}: {'; '.join(problems[:8])}. The model wants {_names(inputs)}")
    return row


def _spread(row: Mapping[str, Any], index: int, inputs: tuple[Input, ...]) -> Mapping[str, Any]:
    """If the row has one array alone, its elements under the inputs' names; else the row as it is."""
    ((name, values),) = row.items()
    if not isinstance(values, list | tuple):
        return row
    if len(inputs) == 1 and inputs[0].is_array:
        return {inputs[0].name: values}
    if any(i.is_array for i in inputs):
        return row
    if len(values) != len(inputs):
        raise SignatureError(f"row {index}: {name} has {len(values)} elements, the model wants {len(inputs)}")
    return dict(zip([i.name for i in inputs], values, strict=True))


def _checked(wanted: Input, value: Any, index: int) -> Any:
    """One value, as pyarrow takes it for this input. It is checked by itself, so that the message names its row."""
    where = f"row {index}: {wanted.name}"
    if not wanted.is_array:
        return _scalar(wanted.type, value, where)
    if value is None and wanted.length is None:
        return None
    if not isinstance(value, list | tuple):
        length = "" if wanted.length is None else f"{wanted.length} "
        kind = _KINDS.get(str(element_type(wanted.type)), ("", "whole numbers"))[1]
        raise SignatureError(f"{where} is {_shown(value)}, expected an array of {length}{kind}")
    if wanted.length is not None and len(value) != wanted.length:
        raise SignatureError(f"{where} has {len(value)} elements, expected {wanted.length}")
    return [_scalar(element_type(wanted.type), each, f"{where}[{n}]") for n, each in enumerate(value)]


def _scalar(wanted: pa.DataType, value: Any, where: str) -> Any:
    if value is None:
        return None
    try:
        made = _reader(wanted)(value)
        if not pa.types.is_float64(wanted):
            stored = pa.scalar(made, wanted).as_py()  # raises if it is out of range, or half of a character
            if isinstance(made, float) and isfinite(made) and not isfinite(stored):
                raise OverflowError
    except (pa.ArrowException, TypeError, ValueError, OverflowError):  # UnicodeError is a ValueError
        kind = _KINDS.get(str(wanted), (f"a whole number ({wanted})",))[0]
        raise SignatureError(f"{where} is {_shown(value)}, expected {kind}") from None
    return made


def _reader(wanted: pa.DataType) -> Callable[[Any], Any]:
    if pa.types.is_floating(wanted):
        return _float32 if pa.types.is_float32(wanted) else _float
    if pa.types.is_integer(wanted):
        return _integer
    if pa.types.is_boolean(wanted):
        return _only(bool)
    if pa.types.is_date(wanted):
        return _date
    if pa.types.is_timestamp(wanted):
        return _timestamp(has_zone=wanted.tz is not None)
    if pa.types.is_string(wanted):
        return _only(str)
    raise ModelError(f"the model has an input of type {wanted}, which has no JSON value")


def _only(kind: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, kind):
            raise TypeError
        return value

    return read


def _float(value: Any) -> float:
    """Truth values are numbers, as in a boolean column of a query."""
    if not isinstance(value, Real):
        raise TypeError
    return float(value)


def _float32(value: Any) -> float:
    """Rounded once, as in a column of a query: an integer is not converted to float64 first."""
    if isinstance(value, Integral):
        return float(pa.scalar(int(value), pa.int64()).cast(pa.float32(), safe=False).as_py())
    return _float(value)


def _integer(value: Any) -> int:
    if not isinstance(value, Integral):
        raise TypeError
    return int(value)


def _date(value: Any) -> date:
    if isinstance(value, datetime):
        raise TypeError
    return value if isinstance(value, date) else date.fromisoformat(value)


def _timestamp(*, has_zone: bool) -> Callable[[Any], datetime]:
    def read(value: Any) -> datetime:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        if (found.tzinfo is not None) != has_zone:
            raise ValueError
        return found

    return read


_KINDS = {
    "string": ("text", "texts"),
    "bool": ("true or false", "truth values"),
    "date32[day]": ('a date, such as "2026-01-31"', "dates"),
    "timestamp[us]": ('a timestamp without time zone, such as "2026-01-31T12:00:00"', "timestamps"),
    "timestamp[us, tz=UTC]": ('a timestamp with its time zone, such as "2026-01-31T12:00:00Z"', "timestamps"),
    "float": ("a number that float32 holds", "numbers"),
    "double": ("a number", "numbers"),
}
"""For each type, what one value and what several values are called in messages; others are whole numbers."""


def _names(inputs: tuple[Input, ...]) -> str:
    shown = ", ".join(map(str, inputs[:8]))
    return f"{shown} and {len(inputs) - 8} more" if len(inputs) > 8 else shown


def _shown(value: object) -> str:
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
