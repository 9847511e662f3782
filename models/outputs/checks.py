"""Checks a model's outputs before they are written: the driver does not compare types with the prediction table."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from scorebeat.core.errors import NonsenseError, OutputError
from scorebeat.models.arrow_types import lossless


def check(predicted: pa.RecordBatch, expected: pa.Schema, rows: int) -> pa.RecordBatch:
    """The predictions with exactly the schema `expected`, `rows` long; only lossless casts are made.

    Raises OutputError for another length, missing or surplus columns, another type, or a NULL in a
    column that allows none. NaN and infinity are floating values like any other and pass.
    """
    if not isinstance(predicted, pa.RecordBatch):
        raise OutputError(f"the model returned {type(predicted).__name__}, expected a RecordBatch")
    if predicted.num_rows != rows:
        raise OutputError(f"the model returned {predicted.num_rows} predictions for {rows} rows")
    if sorted(predicted.schema.names) != sorted(expected.names):
        found, wanted = (
            ", ".join(f"{f.name} {f.type}" for f in schema) or "(none)" for schema in (predicted.schema, expected)
        )
        raise OutputError(f"the model returned the columns {found}, expected {wanted}")
    arrays = [_column(predicted.column(field.name), field) for field in expected]
    return pa.RecordBatch.from_arrays(arrays, schema=expected)


def copied(predicted: pa.RecordBatch) -> pa.RecordBatch:
    """The same values in memory of their own: a model may return the same buffer at every call, and overwrite it."""
    arrays = [pa.concat_arrays([column]) for column in predicted.columns]  # copies, even for one array
    return pa.RecordBatch.from_arrays(arrays, schema=predicted.schema)


def assembled(columns: Sequence[pa.Array], names: Sequence[str]) -> pa.RecordBatch:
    """The output columns as one batch. Raises OutputError for too many or too few columns, or for several lengths."""
    if len(columns) != len(names) or len(set(map(len, columns))) > 1:
        lengths = ", ".join(str(len(column)) for column in columns[:8])
        raise OutputError(
            f"the model returned {len(columns)} columns of {lengths} rows, expected {len(names)} columns: "
            f"{', '.join(names[:8])}"
        )
    return pa.RecordBatch.from_arrays(list(columns), names=list(names))


def check_finite(predicted: pa.RecordBatch) -> None:
    """Raises NonsenseError naming the columns that hold NaN or infinity, with how many."""
    wrong = []
    for field, column in zip(predicted.schema, predicted.columns, strict=True):
        values = column.flatten() if pa.types.is_list(field.type) else column
        if not pa.types.is_floating(values.type):
            continue
        finite = pc.sum(pc.is_finite(values)).as_py() or 0
        if finite + values.null_count < len(values):
            wrong.append(f"{field.name} ({len(values) - values.null_count - finite})")
    if wrong:
        raise NonsenseError(
            f"the model returned NaN or infinity in {', '.join(wrong)} of {predicted.num_rows} rows; "
            "allow_nan = true in the job stores them"
        )


def _column(column: pa.Array, field: pa.Field) -> pa.Array:
    if column.null_count and not field.nullable:
        raise OutputError(f"the model's column {field.name!r} has {column.null_count} NULLs, expected none")
    if column.type.equals(field.type):
        return column
    if not lossless(column.type, field.type):
        raise OutputError(
            f"the model's column {field.name!r} is {column.type}, expected {field.type}: it is not "
            "converted, because values could change"
        )
    try:
        return column.cast(field.type)
    except pa.ArrowException as error:
        raise OutputError(
            f"the model's column {field.name!r} ({column.type}) cannot become {field.type}: {error}"
        ) from error
