"""Scoring a batch in micro-batches, with every output checked, and kept from what the model does next."""

import pyarrow as pa

from scorebeat.models.contract import Model
from scorebeat.models.outputs import checks
from scorebeat.models.scoring.containment import contained


def predict(model: Model, rows: pa.RecordBatch, *, micro_batch_rows: int | None = None) -> pa.RecordBatch:
    """One prediction a row, in the rows' order, with exactly the model's `outputs` schema.

    At most `micro_batch_rows` rows go to the model at once (all, when None). The predictions share no memory
    with arrays that the model may write to at its next call. Raises OutputError when the model breaks its
    contract, InputError for values that it cannot take, EscapedError for what is no Exception.
    """
    step = micro_batch_rows or rows.num_rows
    if rows.num_rows <= step:
        return _score(model, rows)
    return pa.concat_batches([_score(model, rows.slice(at, step)) for at in range(0, rows.num_rows, step)])


def _score(model: Model, rows: pa.RecordBatch) -> pa.RecordBatch:
    with contained():
        predicted = model.predict(rows)
    checked = checks.check(predicted, model.outputs, rows.num_rows)
    return checked if getattr(model, "returns_new_arrays", False) else checks.copied(checked)
