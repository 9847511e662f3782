"""Scores rows by a model, checks what it returned, and finds a row for which it fails."""

import pyarrow as pa

from scorebeat.core.bisect import Failed, bisect
from scorebeat.models.contract import Model
from scorebeat.models.outputs import checks
from scorebeat.models.scoring.containment import contained


def predict(model: Model, rows: pa.RecordBatch) -> pa.RecordBatch:
    """One prediction a row, in the rows' order, with exactly the model's `outputs` schema.

    The predictions share no memory with arrays that the model may write to at its next call. Raises OutputError if the
    model breaks its contract, InputError for values that it does not take, EscapedError for a BaseException that is no
    Exception.
    """
    with contained():
        predicted = model.predict(rows)
    checked = checks.check(predicted, model.outputs, rows.num_rows)
    return checked if getattr(model, "returns_new_arrays", False) else checks.copied(checked)


def find_failing_row(model: Model, rows: pa.RecordBatch, error: Exception) -> tuple[int | None, Exception]:
    """The index of a row for which the model fails alone, and its error; None and `error` if there is no such row.

    `error` is the error of all rows. They are halved until a row fails alone.
    """
    parts = bisect(rows.num_rows, lambda part: predict(model, rows.slice(part.start, len(part))), failed=error)
    return next(((part.index, part.error) for part in parts if isinstance(part, Failed)), (None, error))
