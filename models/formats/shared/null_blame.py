"""Finds out whether a NULL is why a model raises: only if it scores the row with a value instead of the NULL."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scorebeat.core.errors import InputError
from scorebeat.models.contract import Input, Signature
from scorebeat.models.formats.shared.refusals import error_summary
from scorebeat.models.inputs.matrix import unusable
from scorebeat.models.inputs.samples import NOTHING_KNOWN, Known, sample

_ROWS = 16
"""Rows with such values that are tried."""
_COLUMNS = 8
"""Most columns that are tried one by one."""
Score = Callable[[pa.RecordBatch], Any]
Knows = Callable[[Signature], Known]


def explain(rows: pa.RecordBatch, error: Exception, score: Score, known: Knows | None = None) -> Exception:
    """An InputError with the model's own error and the columns whose NULL, NaN or infinity the model does not take.

    Returns `error` itself if rows hold no such value, or if these values are not the reason: `score` also raises for
    rows with ordinary values instead, or does not raise for these few rows. `known` returns values that a Signature's
    inputs had in training.
    """
    wrong = np.column_stack([unusable(column) for column in rows.columns])
    chosen = np.flatnonzero(wrong.any(axis=1))[:_ROWS]
    if not len(chosen):
        return error
    few = rows.take(pa.array(chosen))
    names = [name for at, name in enumerate(rows.schema.names) if wrong[chosen, at].any()]
    ordinary = _ordinary(rows, known)
    if _scores(score, few) or not _scores(score, _filled(few, names, ordinary)):
        return error
    tried = names if len(names) <= _COLUMNS else ()
    others = {name: _filled(few, [n for n in names if n != name], ordinary) for name in tried}
    refused = [name for name, rest in others.items() if not _scores(score, rest)] or names
    cause = error_summary(error, lines=1).removesuffix(".")
    counts = dict(zip(rows.schema.names, wrong.sum(axis=0).tolist(), strict=True))
    found = ", ".join(f"{name} has {counts[name]} NULL, NaN or infinite values" for name in refused)
    return InputError(
        f"{cause}. {found}, and with ordinary values instead the model does not raise: replace them in the job's "
        "query (COALESCE, or a WHERE that leaves such rows out)",
        columns=tuple(refused),
        cause=cause,
    )


def _scores(score: Score, rows: pa.RecordBatch) -> bool:
    try:
        score(rows)
    except Exception:  # noqa: BLE001 -- a model may raise anything; only whether it raises matters
        return False
    return True


def _filled(rows: pa.RecordBatch, names: Sequence[str], ordinary: pa.RecordBatch) -> pa.RecordBatch:
    """The rows, with the ordinary value of each of these columns instead of values that cannot be used.

    An array is replaced as a whole.
    """
    columns = list(rows.columns)
    for name in names:
        at = rows.schema.get_field_index(name)
        column = columns[at]
        choice = np.where(unusable(column), len(column), np.arange(len(column)))
        columns[at] = pa.concat_arrays([column, ordinary.column(at).cast(column.type)]).take(pa.array(choice))
    return pa.RecordBatch.from_arrays(columns, schema=rows.schema)


def _ordinary(rows: pa.RecordBatch, known: Knows | None) -> pa.RecordBatch:
    """One row of values that the model may know: from the rows themselves if they have any."""
    inputs = tuple(
        Input(field.name, field.type.value_type, field.type.list_size)
        if pa.types.is_fixed_size_list(field.type)
        else Input(field.name, field.type)
        for field in rows.schema
    )
    signature = Signature(inputs, pa.schema([]))
    made = sample(signature, 1, known(signature) if known is not None else NOTHING_KNOWN)
    columns = []
    for column, instead in zip(rows.columns, made.columns, strict=True):
        usable = column.filter(pc.invert(pa.array(unusable(column))))
        columns.append(usable.slice(0, 1) if len(usable) else instead)
    return pa.RecordBatch.from_arrays(columns, names=rows.schema.names)
