"""The difference of two sets of predictions for the same rows."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scorebeat.models.arrow_types import is_list

DOUBLE = 1e-9
"""The tolerance of float64, relative to values, absolute below 1: sums in another order may differ so much."""
SINGLE = 1e-5
"""The tolerance of values that were computed in float32."""
_NOISE = 1e-6
"""Smaller values may be rounding errors of larger ones, such as a row minus its own mean."""
Values = NDArray[Any]


@dataclass(frozen=True)
class Difference:
    """The result of comparing two sets of predictions, row by row."""

    rows: NDArray[np.bool_]
    """Whether each row differs: by more than the tolerance, or at all in a text, a whole number or a truth value."""
    largest: float
    """The largest difference of floats, in rows that do not differ."""

    @property
    def positions(self) -> list[int]:
        """Positions of the rows that differ."""
        found: list[int] = np.flatnonzero(self.rows).tolist()
        return found


def of_batch(predicted: pa.RecordBatch) -> list[Values]:
    """Predictions as flat columns; an array column becomes one column an element if all arrays have the same length."""
    columns: list[Values] = []
    for each in predicted.columns:
        if not is_list(each.type):
            columns.append(each.to_numpy(zero_copy_only=False))
            continue
        rows = each.to_pylist()
        widths = {-1 if row is None else len(row) for row in rows}
        if len(widths) == 1 and -1 not in widths:
            columns += [*np.asarray(rows, dtype=each.type.value_type.to_pandas_dtype()).T]
        else:
            tuples = np.empty(len(rows), object)
            tuples[:] = [None if row is None else tuple(row) for row in rows]
            columns.append(tuples)
    return columns


def of_arrays(returned: Sequence[Any]) -> list[Values]:
    """What a library returned, as flat columns; [rows, values] becomes one column a value."""
    columns: list[Values] = []
    for each in map(np.asarray, returned):
        columns += [each] if each.ndim == 1 else [*each.reshape(len(each), -1).T]
    return columns


def difference(found: Sequence[Values], expected: Sequence[Values], *, is_single: bool = False) -> Difference:
    """Compare column by column, as many as both have, with the tolerance of float32 if either was computed in it."""
    pairs = list(zip(found, expected, strict=False))
    rows = np.zeros(len(pairs[0][0]) if pairs else 0, bool)
    gaps = np.zeros(len(rows))
    tolerance = SINGLE if is_single or any(_is_single(c) for pair in pairs for c in pair) else DOUBLE
    for one, other in pairs:
        if not _is_float(one) and not _is_float(other):
            left, right = (c.astype("datetime64[us]") if c.dtype.kind == "M" else c for c in (one, other))
            values = zip(left.tolist(), right.tolist(), strict=True)
            rows |= np.array([not _is_same(a, b) for a, b in values], bool)
            continue
        gap, limit = _gap(one, other, tolerance)
        rows |= ~(gap <= limit)
        gaps = np.maximum(gaps, np.nan_to_num(gap))
    return Difference(rows, float(gaps[~rows].max(initial=0)))


def _is_float(column: Values) -> bool:
    return column.dtype.kind == "f"


def _is_single(column: Values) -> bool:
    """Whether the values were computed in float32, even if they are float64 now."""
    if not _is_float(column):
        return False
    if column.dtype.itemsize < 8:
        return True
    known = column[np.isfinite(column) & (column != np.round(column))]
    with np.errstate(over="ignore", under="ignore"):
        return bool(len(known) and (known.astype(np.float32) == known).all())


def _gap(one: Values, other: Values, tolerance: float) -> tuple[Values, Values]:
    """The differences of floats, and the tolerance of each; NaN equals NaN, and infinity equals itself."""
    left, right = (_floats(each) for each in (one, other))
    with np.errstate(invalid="ignore", over="ignore"):
        same = (left == right) | (np.isnan(left) & np.isnan(right))
        gap = np.where(same, 0.0, np.abs(left - right))
        size = np.maximum(np.abs(left), np.abs(right))
        known = size[np.isfinite(size)]
        floor = min(1.0, max(_NOISE, float(known.max(initial=0))))
        return gap, tolerance * np.maximum(np.where(np.isfinite(size), size, 0), floor)


def _floats(column: Values) -> Values:
    try:
        return column.astype(np.float64)
    except (TypeError, ValueError):  # a text and a number: they differ
        return np.full(len(column), np.inf)


def _is_same(one: Any, other: Any) -> bool:
    one, other = (dt.datetime(e.year, e.month, e.day) if type(e) is dt.date else e for e in (one, other))
    absent = [each is None or each != each for each in (one, other)]  # noqa: PLR0124 -- NaN alone differs from itself
    return all(absent) or (not any(absent) and bool(one == other))
