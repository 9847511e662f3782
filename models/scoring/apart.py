"""Scores rows with NULLs in different columns separately.

In a DataFrame one NULL turns a column of integers into floats, and one of truth values into objects, for all rows. If a
model's own code distinguishes these types, the prediction of a row would depend on other rows.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from scorebeat.models.contract import Input

Score = Callable[[pa.RecordBatch], Sequence[pa.Array]]


def changed_by_null(inputs: Sequence[Input]) -> tuple[str, ...]:
    """Names of the inputs whose dtype a NULL changes."""
    whole = [i for i in inputs if pa.types.is_integer(i.type) or pa.types.is_boolean(i.type)]
    return tuple(i.name for i in whole if i.length is None and not i.trained.dtype)


def by_nulls(rows: pa.RecordBatch, names: Sequence[str], score: Score) -> Sequence[pa.Array]:
    """The columns that `score` returns, in the rows' order; it gets only rows that lack the same columns of `names`."""
    lacking = [rows.column(name).is_null().to_numpy(zero_copy_only=False) for name in names]
    if not any(each.any() for each in lacking):
        return score(rows)
    _, kinds = np.unique(np.column_stack(lacking), axis=0, return_inverse=True)
    groups = [np.flatnonzero(kinds == kind) for kind in range(kinds.max() + 1)]
    parts = [score(rows.take(pa.array(group))) for group in groups]
    back = pa.array(np.argsort(np.concatenate(groups)))
    return [pa.concat_arrays(columns).take(back) for columns in zip(*parts, strict=True)]
