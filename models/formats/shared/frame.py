"""Arrow columns as a pandas DataFrame, with the names and dtypes of training."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from scorebeat.core.errors import InputError
from scorebeat.models.contract import Input, Trained
from scorebeat.models.inputs.matrix import Matrix, matrix

UNKNOWN = Trained()


def frame(rows: pa.RecordBatch, inputs: Sequence[Input]) -> Any:
    """A DataFrame of the same columns in the same order, under their names in training.

    A column has the dtype of training if `inputs` has it. Otherwise:
    - numbers keep their type; with NULLs, integers become float64 and NULL is NaN, as in any DataFrame;
    - texts have the installed pandas' own dtype (`str` since pandas 3, objects before), and NULL is NaN; if `inputs`
      has the missing value of training, they are objects, and NULL is that value, NaN or None;
    - truth values with NULLs are objects, and NULL is None;
    - dates are objects, datetime.date or None, unless `inputs` has datetime64;
    - timestamps are datetime64, and NULL is NaT.

    Raises InputError for a timestamp that the dtype of training does not hold.
    """
    known = {i.name: i for i in inputs}
    names = [known[name].trained_name if name in known else name for name in rows.schema.names]
    if all(pa.types.is_float64(f.type) for f in rows.schema) and not any(i.trained.dtype for i in inputs):
        return pd.DataFrame(matrix(rows, np.float64, "F"), columns=names, copy=False)  # takes a third of the time
    columns = [
        _column(column, known[name].trained if name in known else UNKNOWN, name)
        for name, column in zip(rows.schema.names, rows.columns, strict=True)
    ]
    found = pd.concat([pd.Series(c) for c in columns], axis=1, ignore_index=True) if columns else pd.DataFrame()
    return found.set_axis(names, axis=1)


def category(column: pa.Array, trained: Trained) -> Any:
    """A Categorical with the codes of training.

    A value that training did not have is added after these categories, as in a user's own DataFrame; the library
    decides what to do with it.
    """
    encoded = column.dictionary_encode()
    values = [
        int(value) if isinstance(value, float) and value.is_integer() else value  # equals the category of an integer
        for value in encoded.dictionary.to_pylist()
    ]
    known = {value: code for code, value in enumerate(trained.categories)}
    missing = {value for value in values if value is None or value != value}  # noqa: PLR0124 -- NaN is not itself
    unknown = [value for value in values if value not in known and value not in missing]
    known |= {value: len(trained.categories) + at for at, value in enumerate(unknown)}
    codes = np.array([-1 if value in missing else known[value] for value in values] + [-1], dtype=np.int32)
    indices = encoded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
    categories = [*trained.categories, *unknown]
    try:
        index = pd.Index(categories, dtype=trained.index or None)
    except (ValueError, OverflowError):  # of a new value: the library refuses the rows with pandas' own dtype
        index = pd.Index(categories)
    return pd.Categorical.from_codes(codes[indices], dtype=pd.CategoricalDtype(index, trained.ordered))


def _column(column: pa.Array, trained: Trained, name: str) -> Any:
    if trained.dtype == "category":
        return category(column, trained)
    if pa.types.is_date(column.type) and not trained.dtype:
        return pd.Series(column.to_pylist(), dtype=object)
    if pa.types.is_temporal(column.type):
        times = pd.Series(column.to_pandas(date_as_object=False))
        try:
            return times.astype(trained.dtype) if trained.dtype else times
        except (ValueError, OverflowError) as error:
            raise InputError(
                f"{name} has a timestamp that {trained.dtype}, its dtype in training, does not hold: {error}"
            ) from error
    if trained.dtype and trained.dtype != "object":
        return pd.array(column.to_pylist(), dtype=trained.dtype)
    if pa.types.is_string(column.type) and not trained.null and not trained.dtype:
        texts = column.to_pandas()
        if texts.dtype != object:
            return texts
    unknown = None if pa.types.is_boolean(column.type) else np.nan  # as pandas.read_sql returns them
    missing = {"None": None, "NaN": np.nan}.get(trained.null, unknown)
    values: Matrix
    if trained.dtype == "object":
        values = np.empty(len(column), dtype=object)
        values[:] = column.to_pylist()
    else:
        values = column.to_numpy(zero_copy_only=False)
    if values.dtype == object and column.null_count:
        values = values.copy()
        values[column.is_null().to_numpy(zero_copy_only=False)] = missing
    return pd.Series(values, dtype=values.dtype)  # pandas would guess a type of its own for objects
