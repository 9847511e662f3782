"""Calls a model, checks what it returned, and copies that if the model may overwrite it."""

import pyarrow as pa

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
