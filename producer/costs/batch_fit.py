"""What a batch costs beside its rows: a line through the times of batches of different sizes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorebeat.db.reports.forecasts.batch_times import BatchTime

LEAST_BATCHES = 10
LEAST_SMALL = 3
"""Batches of at most half the size of the largest: without them nothing shows what a batch costs beside its rows."""
OUTLIERS = 4.0
"""Times the median deviation, by the root of the rows, from which on a batch is left out: such as one in which a
process loaded its model."""
CERTAIN = 3.0
"""Standard errors that a cost must be above 0 to count as measured."""


_Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class BatchFit:
    """The line: seconds of a batch = `fixed` + rows x `per_row`."""

    fixed: float
    per_row: float
    fixed_error: float
    """Standard error of `fixed`, in seconds."""
    batches: int
    """Of which the line was made, without outliers."""
    smallest: int
    """Rows of the smallest batch."""
    largest: int

    def share_fixed(self, rows: float) -> float:
        """Share of a batch's time that does not depend on its rows."""
        return self.fixed / (self.fixed + rows * self.per_row)


def fit(times: Sequence[BatchTime]) -> BatchFit | str:
    """The line, by least squares; or why the batches do not show it."""
    if len(times) < LEAST_BATCHES:
        return f"{len(times)} batches of late were scored without a fault; {LEAST_BATCHES} are needed"
    rows = np.array([one.rows for one in times], float)
    seconds = np.array([one.seconds for one in times])
    if np.count_nonzero(rows <= rows.max() / 2) < LEAST_SMALL:
        return (
            f"the last {len(times)} batches have much the same size, so nothing shows what a batch costs beside its "
            f"rows; {LEAST_SMALL} of at most half the rows of the largest are needed"
        )
    kept = np.ones(len(rows), bool)
    for _ in range(3):
        line = _line(rows[kept], seconds[kept])
        away = np.abs(seconds - (line[0] + line[1] * rows)) / np.sqrt(rows)
        limit = OUTLIERS * max(float(np.median(away)), 1e-7)
        if (away <= limit).sum() < LEAST_BATCHES or np.array_equal(away <= limit, kept):
            break
        kept = away <= limit
    good_rows, good_seconds = rows[kept], seconds[kept]
    if np.count_nonzero(good_rows <= good_rows.max() / 2) < LEAST_SMALL:
        return f"the times of the last {len(times)} batches differ too much for their sizes"
    fixed, per_row = _line(good_rows, good_seconds)
    errors = _standard_errors(good_rows, good_seconds, fixed, per_row)
    if per_row < CERTAIN * errors[1] or fixed < CERTAIN * errors[0]:
        return f"the times of the last {len(times)} batches do not grow with their rows clearly enough"
    return BatchFit(
        fixed=float(fixed),
        per_row=float(per_row),
        fixed_error=float(errors[0]),
        batches=int(kept.sum()),
        smallest=int(good_rows.min()),
        largest=int(good_rows.max()),
    )


def share_of_predict(times: Sequence[BatchTime]) -> float:
    """Share of the batches' time in which the model predicted."""
    return sum(one.predict for one in times) / max(sum(one.seconds for one in times), 1e-9)


def _line(rows: _Floats, seconds: _Floats) -> _Floats:
    """`fixed, per_row`. Each batch counts by its relative error: a large one is not exact to the millisecond."""
    weights = 1 / np.sqrt(rows)
    columns = np.column_stack([np.ones_like(rows), rows]) * weights[:, None]
    line: _Floats = np.linalg.lstsq(columns, seconds * weights, rcond=None)[0]
    return line


def _standard_errors(rows: _Floats, seconds: _Floats, fixed: float, per_row: float) -> _Floats:
    weights = 1 / np.sqrt(rows)
    columns = np.column_stack([np.ones_like(rows), rows]) * weights[:, None]
    away = (seconds - fixed - per_row * rows) * weights
    spread = float(away @ away) / max(len(rows) - 2, 1)
    errors: _Floats = np.sqrt(np.diag(np.linalg.inv(columns.T @ columns)) * spread)
    return errors
