"""Whether a NULL is to blame where a model raises: said only when it scores the row with a value in its place."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scorebeat.core.errors import InputError
from scorebeat.models.contract import Input, Signature
from scorebeat.models.formats.shared.refusals import said
from scorebeat.models.inputs.matrix import unusable
from scorebeat.models.inputs.samples import NOTHING_KNOWN, Known, sample

_ROWS = 16
"""Rows with such values that are looked at."""
_COLUMNS = 8
"""Columns that are tried each by itself."""
Score = Callable[[pa.RecordBatch], Any]
Knows = Callable[[Signature], Known]


def explain(rows: pa.RecordBatch, error: Exception, score: Score, known: Knows | None = None) -> Exception:
    """The InputError that has the model's own error and then the columns whose NULL, NaN or infinity it does not take.

    `error` itself where rows hold none, or where they are not to blame: `score` raises for them with an ordinary value
    in every such place, too, or does not raise for them as they are. `known` tells values that a Signature's inputs had
    in training.
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
    guilty = [name for name, rest in others.items() if not _scores(score, rest)] or names
    cause = said(error, lines=1).removesuffix(".")
    counts = dict(zip(rows.schema.names, wrong.sum(axis=0).tolist(), strict=True))
    found = ", ".join(f"{name} has {counts[name]} NULL, NaN or infinite values" for name in guilty)
    return InputError(
        f"{cause}. {found}, and with ordinary values instead the model does not raise: replace them in the job's "
        "query (COALESCE, or a WHERE that leaves such rows out)",
        columns=tuple(guilty),
        cause=cause,
    )


def _scores(score: Score, rows: pa.RecordBatch) -> bool:
    try:
        score(rows)
    except Exception:  # noqa: BLE001 -- a model may raise anything; whether it does is what is asked
        return False
    return True


def _filled(rows: pa.RecordBatch, names: Sequence[str], ordinary: pa.RecordBatch) -> pa.RecordBatch:
    """The rows with the ordinary value of each of these columns where they hold none that can be used."""
    columns = [
        _put(column, ordinary.column(name)) if name in names else column
        for name, column in zip(rows.schema.names, rows.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=rows.schema)


def _put(column: pa.Array, ordinary: pa.Array) -> pa.Array:
    """A row of an array column is replaced as a whole."""
    lacks = unusable(column)
    choice = np.where(lacks, len(column), np.arange(len(column)))
    return pa.concat_arrays([column, ordinary.cast(column.type)]).take(pa.array(choice))


def _input(field: pa.Field) -> Input:
    if pa.types.is_fixed_size_list(field.type):
        return Input(field.name, field.type.value_type, field.type.list_size)
    return Input(field.name, field.type)


def _ordinary(rows: pa.RecordBatch, known: Knows | None) -> pa.RecordBatch:
    """One row of values that the model may know: of the rows themselves where they have some."""
    inputs = tuple(map(_input, rows.schema))
    signature = Signature(inputs, pa.schema([]))
    made = sample(signature, 1, known(signature) if known is not None else NOTHING_KNOWN)
    columns = []
    for column, instead in zip(rows.columns, made.columns, strict=True):
        usable = column.filter(pc.invert(pa.array(unusable(column))))
        columns.append(usable.slice(0, 1) if len(usable) else instead)
    return pa.RecordBatch.from_arrays(columns, names=rows.schema.names)
