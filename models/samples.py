"""Invented rows, to see what a model answers before it is used."""

import pyarrow as pa

from scorebeat.models.contract import Input, Signature


def sample(signature: Signature, rows: int) -> pa.RecordBatch:
    """`rows` rows of the model's inputs: ones and zeros, true and false, "1" and "0" in turn."""
    arrays = [_column(i, rows) for i in signature.inputs]
    return pa.RecordBatch.from_arrays(arrays, schema=signature.columns)


def _column(wanted: Input, rows: int) -> pa.Array:
    width = wanted.length or 1
    ones = pa.array([(row + 1) % 2 for row in range(rows) for _ in range(width)], pa.int32())
    numeric = not pa.types.is_temporal(wanted.type)
    values = ones.cast(wanted.type) if numeric else ones.cast(pa.int32()).cast(pa.int64()).cast(wanted.type)
    return values if wanted.length is None else pa.FixedSizeListArray.from_arrays(values, wanted.length)
