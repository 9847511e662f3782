"""Invented rows, to see what a model answers before it is used."""

import pyarrow as pa

from scorebeat.models.arrow_types import is_list
from scorebeat.models.contract import Input, Signature


def sample(signature: Signature, rows: int) -> pa.RecordBatch:
    """`rows` rows of the model's inputs: ones and zeros, true and false, "1" and "0" in turn; a list has two."""
    arrays = [_column(i, rows) for i in signature.inputs]
    return pa.RecordBatch.from_arrays(arrays, schema=signature.columns)


def _column(wanted: Input, rows: int) -> pa.Array:
    if is_list(wanted.type):
        return pa.ListArray.from_arrays(
            pa.array(range(0, _LISTED * rows + 1, _LISTED), pa.int32()), _in_turn(wanted.type.value_type, rows, _LISTED)
        )
    values = _in_turn(wanted.type, rows, wanted.length or 1)
    return values if wanted.length is None else pa.FixedSizeListArray.from_arrays(values, wanted.length)


_LISTED = 2
"""Elements of an invented list."""


def _in_turn(kind: pa.DataType, rows: int, width: int) -> pa.Array:
    """One and zero, a row each, as so many values of the type."""
    ones = pa.array([(row + 1) % 2 for row in range(rows) for _ in range(width)], pa.int32())
    return ones.cast(pa.int64()).cast(kind) if pa.types.is_timestamp(kind) else ones.cast(kind)
