"""Finds a row for which a model fails."""

import pyarrow as pa

from scorebeat.models.contract import Model
from scorebeat.models.scoring import score_rows


def find_failing_row(model: Model, rows: pa.RecordBatch, error: Exception) -> tuple[int | None, Exception]:
    """The index of a row for which the model fails alone, and its error; None and `error` if there is no such row.

    It is found by halving: at most twice as many rows are scored again.
    """
    start, length, found = 0, rows.num_rows, error
    while length > 1:
        half = length // 2
        raised = _raised(model, rows.slice(start, half))
        if raised is not None:
            length, found = half, raised
            continue
        start, length = start + half, length - half
        raised = _raised(model, rows.slice(start, length))
        if raised is None:
            return None, error
        found = raised
    return start, found


def _raised(model: Model, rows: pa.RecordBatch) -> Exception | None:
    try:
        score_rows.predict(model, rows)
    except Exception as error:  # noqa: BLE001 -- the model's own code may raise anything, and the caller wants the error
        return error
    return None
