"""Arrow columns as a pandas DataFrame, as a model knew them in training."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from scorebeat.models.matrix import Matrix

NAN: Mapping[str, Any] = {}


def frame(rows: pa.RecordBatch, missing: Mapping[str, Any] = NAN) -> Any:
    """A DataFrame of the same columns in the same order.

    Numbers keep their type; where there are NULLs, integers become float64 and NULL is NaN, as in any
    DataFrame. Texts are objects, and NULL is `missing[name]`, else NaN. Truth values with NULLs are objects.
    Dates and times are datetime64, and NULL is NaT.
    """
    columns = {f.name: _column(c, missing.get(f.name, np.nan)) for f, c in zip(rows.schema, rows.columns, strict=True)}
    return pd.DataFrame(columns, index=pd.RangeIndex(rows.num_rows), columns=rows.schema.names)


def _column(column: pa.Array, missing: Any) -> Any:
    values: Matrix
    if pa.types.is_temporal(column.type):
        return pd.Series(column.to_pandas(date_as_object=False))
    values = column.to_numpy(zero_copy_only=False)
    if values.dtype == object and column.null_count:
        values = values.copy()
        values[column.is_null().to_numpy(zero_copy_only=False)] = missing
    return pd.Series(values, dtype=values.dtype)  # pandas would guess a type of its own for objects
