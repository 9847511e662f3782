"""Arrow columns as one numeric matrix, and errors for values that a model does not take."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from scorebeat.core.errors import InputError

Matrix = NDArray[Any]


def matrix(rows: pa.RecordBatch, dtype: type[np.generic], order: Literal["C", "F"]) -> Matrix:
    """[rows, values] of that dtype; an array column fills as many columns as it has elements.

    NULL becomes NaN in a floating dtype; for any other, call `no_nulls` first. One array column of the
    same dtype is not copied.
    """
    if rows.num_columns == 1 and pa.types.is_fixed_size_list(rows.column(0).type):
        return _elements(rows.column(0)).astype(dtype, order="C", copy=False)
    filled = np.empty((rows.num_rows, sum(_width(f.type) for f in rows.schema)), dtype=dtype, order=order)
    start = 0
    for column in rows.columns:
        width = _width(column.type)
        filled[:, start : start + width] = _elements(column)
        start += width
    return filled


def no_nulls(rows: pa.RecordBatch) -> None:
    """Raises InputError naming every column that has NULLs, in itself or in its arrays."""
    counts: dict[str, int] = {}
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        elements = _flat(column)
        count = column.null_count + (0 if elements is column else elements.null_count)
        if count:
            counts[name] = count
    if counts:
        shown = ", ".join(f"{name} has {count} NULL values" for name, count in counts.items())
        raise InputError(
            f"the model takes no NULL values: {shown}. Replace them in the job's query "
            "(COALESCE, or a WHERE that leaves such rows out)",
            columns=tuple(counts),
        )


def no_nulls_in_tensors(rows: pa.RecordBatch, are_floats: Sequence[bool]) -> None:
    """As `no_nulls`, in columns that feed tensors of a type without NaN.

    `are_floats` has one value a tensor: a lone tensor takes all columns, else each takes one.
    """
    if len(are_floats) == 1:
        are_floats = [*are_floats] * rows.num_columns
    no_nulls(rows.select([at for at, is_float in enumerate(are_floats) if not is_float]))


def unusable(column: pa.Array) -> NDArray[np.bool_]:
    """Which rows hold NULL, NaN or infinity, in themselves or in their arrays."""
    rows: NDArray[np.bool_] = column.is_null().to_numpy(zero_copy_only=False)
    flat = _flat(column)
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return rows
    elements: NDArray[np.bool_] = flat.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_floating(flat.type):
        elements = ~np.isfinite(_values(flat))
    return rows | elements.reshape(len(column), -1).any(axis=1)


def _width(arrow_type: pa.DataType) -> int:
    return int(arrow_type.list_size) if pa.types.is_fixed_size_list(arrow_type) else 1


def _flat(column: pa.Array) -> pa.Array:
    if not pa.types.is_fixed_size_list(column.type):
        return column
    size = column.type.list_size
    # flatten() would drop the elements of a NULL array, and so shift all later rows
    return column.values.slice(column.offset * size, len(column) * size)


def _elements(column: pa.Array) -> Matrix:
    return _values(_flat(column)).reshape(len(column), _width(column.type))


def _values(column: pa.Array) -> Matrix:
    if pa.types.is_boolean(column.type):
        column = pc.cast(column, pa.uint8())  # a boolean with NULLs would become Python objects
    values: Matrix = column.to_numpy(zero_copy_only=False)
    return values
