"""A caller's rows as Arrow, and predictions in the same kind of table as the rows."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from scorebeat.core.errors import SignatureError
from scorebeat.models.inputs.own_rows import plain_types

EXPECTED = "expected a DataFrame, a pyarrow.Table, or a list of dicts with a value by the name of each input"


def require_table(rows: Any) -> None:
    """Raises SignatureError for what is no table at all."""
    if not (isinstance(rows, pa.Table | pa.RecordBatch | list) or _is(rows, "pandas") or _is(rows, "polars")):
        raise SignatureError(f"the rows are no table of columns: a {type(rows).__name__} was given; {EXPECTED}")


_WRONG = (pa.ArrowException, TypeError, ValueError, OverflowError)


def columns(rows: Any, inputs: Sequence[str]) -> pa.RecordBatch:
    """The rows in the types that a query returns; NaN, NaT and None of pandas are NULL.

    `rows` is a table (`require_table`). Raises SignatureError for values of `inputs` that no column can hold. Other
    columns are left out if Arrow cannot hold them.
    """
    try:
        try:
            table = plain_types(_table(rows)).combine_chunks()
        except _WRONG:
            table = plain_types(_table(_only(rows, inputs))).combine_chunks()
    except _WRONG as error:
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


def _only(rows: Any, names: Sequence[str]) -> Any:
    """The rows of pandas, or dicts, without columns of other names."""
    if _is(rows, "pandas"):
        return rows.loc[:, rows.columns.isin(names)]
    if isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows):
        return [{name: row[name] for name in names if name in row} for row in rows]
    return rows


def _table(rows: Any) -> pa.Table:
    if _is(rows, "pandas"):
        return pa.Table.from_pandas(rows, preserve_index=False)
    if _is(rows, "polars"):
        return rows.to_arrow()
    if isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, pa.RecordBatch):
        return pa.Table.from_batches([rows])
    for position, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise TypeError(f"row {position} is a {type(row).__name__}; {EXPECTED}")
    return pa.Table.from_pylist(rows)


def _is(rows: Any, library: str) -> bool:
    """Whether it is a DataFrame of that library. If it is, the library is loaded."""
    module = sys.modules.get(library)
    return module is not None and isinstance(rows, module.DataFrame)
