"""What a fitted scikit-learn model says of the columns that it was trained on: which it uses, which are text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer

_KEEPS_COLUMNS = (SimpleImputer, FunctionTransformer)
"""Steps that mostly give the columns which they got."""


@dataclass(frozen=True)
class TextColumn:
    """A column of texts."""

    example: str
    """A text that the model knows."""
    missing: Any
    """What stood in training where there was no text: None or NaN."""


def reads_text(model: Any) -> bool:
    """Whether it is fed texts, one a row, rather than columns: it begins with a text vectorizer."""
    if isinstance(model, Pipeline):
        return any(reads_text(step) for step in _working(model)[:1])
    if isinstance(model, FeatureUnion):
        return all(reads_text(step) for _, step in model.transformer_list)
    return isinstance(model, CountVectorizer | HashingVectorizer) or any(map(reads_text, _inner(model)))


def picks_by_name(model: Any) -> bool:
    """Whether a ColumnTransformer in it picks columns by name, as from a DataFrame."""
    if isinstance(model, ColumnTransformer):
        picked = [np.atleast_1d(columns) for _, _, columns in _fitted(model)]
        return any(isinstance(column, str) for columns in picked for column in columns.tolist())
    steps = _working(model) if isinstance(model, Pipeline) else _inner(model)
    return any(map(picks_by_name, steps))


def used(model: Any, names: Sequence[str]) -> list[str]:
    """The columns that reach the model: without those that a ColumnTransformer at its beginning drops."""
    if isinstance(model, ColumnTransformer):
        kept = {name for _, step, columns in _fitted(model) if step != "drop" for name in _picked(columns, names)}
    else:
        following = _working(model)[:1] if isinstance(model, Pipeline) else _inner(model)
        kept = {name for step in following for name in used(step, names)} or set(names)
    return [name for name in names if name in kept]


def text_columns(model: Any, names: Sequence[str]) -> dict[str, TextColumn]:
    """Those of the columns that held text in training, as far as encoders, imputers and vectorizers tell."""
    if isinstance(model, ColumnTransformer):
        parts = [(step, _picked(columns, names)) for _, step, columns in _fitted(model)]
        return _merged(text_columns(step, picked) for step, picked in parts)
    if isinstance(model, Pipeline):
        return _merged(text_columns(step, names) for step in _beginning(model))
    if isinstance(model, FeatureUnion):
        return _merged(text_columns(step, names) for _, step in model.transformer_list)
    if isinstance(model, CountVectorizer | HashingVectorizer):
        return dict.fromkeys(names[:1], TextColumn("text", np.nan))
    found = {
        name: TextColumn(texts[0], _missing(model, values))
        for name, values in zip(names, _known(model), strict=False)
        if (texts := [v for v in values if isinstance(v, str)])
    }
    return found or _merged(text_columns(step, names) for step in _inner(model))


def _working(model: Any) -> list[Any]:
    return [step for _, step in model.steps if step is not None and step != "passthrough"]


def _beginning(model: Any) -> Iterator[Any]:
    """The steps that see the pipeline's own columns."""
    for step in _working(model):
        yield step
        if not isinstance(step, _KEEPS_COLUMNS):
            return


def _fitted(model: Any) -> Sequence[tuple[str, Any, Any]]:
    """Name, transformer and columns of each part; none of a template that was never fitted."""
    return getattr(model, "transformers_", ())


def _inner(model: Any) -> list[Any]:
    """The models that get the same rows as the model around them."""
    around = ("best_estimator_", "estimator_", "regressor_", "_preprocessor")
    found = [inner for name in around if (inner := getattr(model, name, None)) is not None]
    several = getattr(model, "estimators_", None)
    found += [calibrated.estimator for calibrated in getattr(model, "calibrated_classifiers_", ())]
    return found + (several if isinstance(several, list) else [])


def _known(model: Any) -> Sequence[Sequence[Any]]:
    """For each column that an encoder or imputer was fitted on: the values that it knows."""
    if isinstance(model, SimpleImputer) and hasattr(model, "statistics_"):
        return [[value] for value in model.statistics_.tolist()]
    return [values.tolist() for values in getattr(model, "categories_", ()) if hasattr(values, "tolist")]


def _missing(model: Any, values: Sequence[Any]) -> Any:
    given = getattr(model, "missing_values", np.nan)
    return None if None in values or given is None else np.nan


def _picked(columns: Any, names: Sequence[str]) -> list[str]:
    """The names that a ColumnTransformer's choice of columns means."""
    if isinstance(columns, slice):
        ends = [names.index(end) if isinstance(end, str) else end for end in (columns.start, columns.stop)]
        last = ends[1] + 1 if isinstance(columns.stop, str) else ends[1]  # a slice of names has its last one
        return [*names[slice(ends[0], last, columns.step)]]
    chosen = np.atleast_1d(columns)
    if all(isinstance(column, str) for column in chosen.tolist()):
        return [str(column) for column in chosen]
    return [str(name) for name in np.asarray(names, dtype=object)[chosen]]


def _merged(found: Iterator[dict[str, TextColumn]]) -> dict[str, TextColumn]:
    merged: dict[str, TextColumn] = {}
    for columns in found:
        for name, column in columns.items():
            before = merged.get(name, column)
            merged[name] = TextColumn(before.example, None if None in (before.missing, column.missing) else np.nan)
    return merged
