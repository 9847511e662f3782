"""Scores a batch in micro-batches, checks every output, and copies it if the model may overwrite it."""

import pyarrow as pa

from scorebeat.models.contract import Model
from scorebeat.models.outputs import checks
from scorebeat.models.scoring.containment import contained


def predict(model: Model, rows: pa.RecordBatch, *, micro_batch_rows: int | None = None) -> pa.RecordBatch:
    """One prediction a row, in the rows' order, with exactly the model's `outputs` schema.

    At most `micro_batch_rows` rows go to the model at once (all if None). The predictions share no memory
    with arrays that the model may write to at its next call. Raises OutputError if the model breaks its contract,
    InputError for values that it does not take, EscapedError for a BaseException that is no Exception.
    """
    step = micro_batch_rows or rows.num_rows
    if rows.num_rows <= step:
        return _score(model, rows)
    return pa.concat_batches([_score(model, rows.slice(start, step)) for start in range(0, rows.num_rows, step)])


def _score(model: Model, rows: pa.RecordBatch) -> pa.RecordBatch:
    with contained():
        predicted = model.predict(rows)
    checked = checks.check(predicted, model.outputs, rows.num_rows)
    return checked if getattr(model, "returns_new_arrays", False) else checks.copied(checked)
