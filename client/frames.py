"""A caller's rows as Arrow, and predictions in the same kind of table as the rows."""

import sys
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from scorebeat.core.errors import SignatureError
from scorebeat.models.inputs.own_rows import plain_types

EXPECTED = "expected a DataFrame, a pyarrow.Table, or a list of dicts with a value by the name of each input"


def columns(rows: Any) -> pa.RecordBatch:
    """The rows in the types that a query returns; NaN, NaT and None of pandas are NULL.

    Raises SignatureError for anything but a table, or for values that no column can hold.
    """
    try:
        table = plain_types(_table(rows)).combine_chunks()
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise SignatureError(f"the rows are no table of columns: {' '.join(str(error).split())}") from error
    if not table.num_rows:
        return pa.RecordBatch.from_arrays([pa.array([], f.type) for f in table.schema], schema=table.schema)
    return table.to_batches()[0]


def like(rows: Any, predicted: pa.RecordBatch) -> Any:
    """The predictions as the same kind of table."""
    table = pa.Table.from_batches([predicted])
    if _is(rows, "pandas"):
        found = table.to_pandas()
        found.index = rows.index
        return found
    if _is(rows, "polars"):
        return sys.modules["polars"].from_arrow(table)
    return table if isinstance(rows, pa.Table) else predicted if isinstance(rows, pa.RecordBatch) else table.to_pylist()


def _table(rows: Any) -> pa.Table:
    if _is(rows, "pandas"):
        return pa.Table.from_pandas(rows, preserve_index=False)
    if _is(rows, "polars"):
        return rows.to_arrow()
    if isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, pa.RecordBatch):
        return pa.Table.from_batches([rows])
    if not isinstance(rows, list):
        raise TypeError(f"a {type(rows).__name__} was given; {EXPECTED}")
    for position, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise TypeError(f"row {position} is a {type(row).__name__}; {EXPECTED}")
    return pa.Table.from_pylist(rows)


def _is(rows: Any, library: str) -> bool:
    """Whether it is a DataFrame of that library. If it is, the library is loaded."""
    module = sys.modules.get(library)
    return module is not None and isinstance(rows, module.DataFrame)
