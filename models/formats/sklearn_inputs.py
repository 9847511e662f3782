"""What a fitted scikit-learn model is fed: a matrix of numbers, a DataFrame, or texts."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from scorebeat.core.errors import StoreError
from scorebeat.models.arrow_types import is_text
from scorebeat.models.contract import Input, Signature
from scorebeat.models.formats.sklearn_columns import picks_by_name, reads_text, text_columns, used
from scorebeat.models.given import named_inputs
from scorebeat.models.matrix import matrix
from scorebeat.models.registry import missing
from scorebeat.models.samples import sample

MATRIX, FRAME, TEXTS = "matrix", "frame", "texts"
Feed = Callable[[pa.RecordBatch], Any]
_TEXT = "text"
"""The input of a model that reads texts, unless it is given another name."""


@dataclass(frozen=True)
class Fed:
    """The inputs of a model, and how its predict() wants them."""

    kind: str
    inputs: tuple[Input, ...]
    trial: pa.RecordBatch
    """One invented row, with texts that the model knows."""
    said_text: tuple[str, ...] = ()
    """Inputs that are text by the word of whoever added the model alone."""

    @property
    def words(self) -> pa.RecordBatch:
        """One invented row with a word in each of `said_text`."""
        known = {name: self.trial[name][0].as_py() for name in self.trial.schema.names}
        return _trial(self.inputs, known | dict.fromkeys(self.said_text, "word"))


def fed(model: Any, given: Sequence[str], file: str) -> Fed:
    """What the model wants, by its own word and by the names, or names and types, that were given.

    Raises StoreError where the two do not fit, or where neither tells the names.
    """
    if reads_text(model):
        inputs = _one_text(given, file)
        return Fed(TEXTS, inputs, _trial(inputs, {}))
    names = _names(model)
    texts = {name: column.example for name, column in text_columns(model, names).items()}
    by_name = picks_by_name(model)
    if hasattr(model, "feature_names_in_") and (by_name or texts):
        inputs = _columns(used(model, names), texts, given, file)
    else:
        inputs = _values(model, given, bool(by_name or texts), file)
        texts = {i.name: texts[name] for i, name in zip(inputs, names, strict=False) if name in texts}
    kind = FRAME if by_name or not all(map(_is_number, inputs)) else MATRIX
    if kind == FRAME and any(i.length for i in inputs):
        raise StoreError(f"{file} takes columns, not arrays: name each column with --inputs a,b,c")
    said = tuple(i.name for i in inputs if is_text(i.type) and i.name not in texts)
    return Fed(kind, inputs, _trial(inputs, texts), said)


def feed(kind: str, model: Any, inputs: Sequence[Input]) -> Feed:
    """How rows become what the model's predict() takes. Raises ModelError where pandas is needed and absent."""
    if kind == TEXTS:
        return _texts
    return _frames(model, [i.name for i in inputs]) if kind == FRAME else _matrix


def _matrix(rows: pa.RecordBatch) -> Any:
    x = matrix(rows, np.float64, "F")
    x.flags.writeable = False  # a scaler with copy=False would scale in place, and again for the label
    return x


def _texts(rows: pa.RecordBatch) -> Any:
    """NULL is NaN, as in a Series of texts: a vectorizer refuses it in its own words."""
    texts = rows.column(0).to_numpy(zero_copy_only=False)
    if rows.column(0).null_count:
        texts = texts.copy()
        texts[rows.column(0).is_null().to_numpy(zero_copy_only=False)] = np.nan
    return texts


def _frames(model: Any, inputs: list[str]) -> Feed:
    try:
        frame = importlib.import_module("scorebeat.models.formats.frame").frame
    except ModuleNotFoundError as error:
        raise missing(error, "a model that was fitted on a DataFrame") from error
    texts = text_columns(model, _names(model))
    named = _names(model) if hasattr(model, "feature_names_in_") else inputs
    unknown = {name: texts[own].missing for own, name in zip(_names(model), named, strict=False) if own in texts}
    return lambda rows: frame(rows, unknown)


def _names(model: Any) -> list[str]:
    """The columns of training: their names, or their numbers."""
    count = int(getattr(model, "n_features_in_", 0))
    return [str(name) for name in getattr(model, "feature_names_in_", range(count))]


def _one_text(given: Sequence[str], file: str) -> tuple[Input, ...]:
    inputs = named_inputs(given or (_TEXT,), pa.string())
    if len(inputs) != 1 or not is_text(inputs[0].type) or inputs[0].length:
        raise StoreError(f"{file} reads one text a row: name it with --inputs review, not {', '.join(given)}")
    return inputs


def _columns(names: list[str], texts: dict[str, str], given: Sequence[str], file: str) -> tuple[Input, ...]:
    """Columns under the names of training; those given say types that the model does not know."""
    types = {name: pa.string() if name in texts else pa.float64() for name in names}
    typed = {}
    for text, read in zip(given, named_inputs(given, pa.float64()), strict=True):
        if read.name not in types:
            raise StoreError(f"{file} was fitted on the columns {', '.join(names)}, but --inputs names {read.name!r}")
        typed[read.name] = named_inputs((text,), types[read.name])[0]
    return tuple(typed.get(name, Input(name, types[name])) for name in names)


def _values(model: Any, given: Sequence[str], needs_names: bool, file: str) -> tuple[Input, ...]:
    """As many values as the model has features, under the names given, else those of training, else as an array."""
    own = tuple(Input(str(name), pa.float64()) for name in getattr(model, "feature_names_in_", ()))
    inputs = named_inputs(given, pa.float64()) or own
    found = sum(i.length or 1 for i in inputs)
    count = int(getattr(model, "n_features_in_", 0) or found)
    if not count:
        raise StoreError(f"{file} does not say how many inputs it wants: name them with --inputs a,b,c")
    if inputs and found != count:
        raise StoreError(f"{file} wants {count} inputs, but --inputs names {found}: {', '.join(given)}")
    if needs_names and not inputs:
        raise StoreError(
            f"{file} picks columns by name, or has text among its {count} columns, but does not know their names: "
            "give them with their types, --inputs age:float64,city:string"
        )
    return inputs or (Input("features", pa.float64(), count),)


def _is_number(wanted: Input) -> bool:
    kinds = (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean)
    return any(kind(wanted.type) for kind in kinds)


def _trial(inputs: tuple[Input, ...], texts: dict[str, str]) -> pa.RecordBatch:
    row = sample(Signature(inputs, pa.schema([])), 1)
    columns = [
        pa.array([texts[i.name]], i.column_type) if i.name in texts and is_text(i.type) else column
        for i, column in zip(inputs, row.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=row.schema)
