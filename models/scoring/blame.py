"""Finds a row for which a model fails."""

import pyarrow as pa

from scorebeat.core.bisect import Failed, bisect
from scorebeat.models.contract import Model
from scorebeat.models.scoring import score_rows


def find_failing_row(model: Model, rows: pa.RecordBatch, error: Exception) -> tuple[int | None, Exception]:
    """The index of a row for which the model fails alone, and its error; None and `error` if there is no such row.

    `error` is the error of all rows. They are halved until a row fails alone.
    """
    parts = bisect(
        rows.num_rows, lambda part: score_rows.predict(model, rows.slice(part.start, len(part))), failed=error
    )
    return next(((part.index, part.error) for part in parts if isinstance(part, Failed)), (None, error))
