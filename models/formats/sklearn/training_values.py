"""Values that the columns of a fitted scikit-learn model had in training, as far as its parts show."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer, PowerTransformer

from scorebeat.models.contract import Signature
from scorebeat.models.formats.sklearn.columns import (
    fills_in,
    fitted_parts,
    inner_models,
    picked_names,
    reads_text,
    working_steps,
)
from scorebeat.models.inputs.samples import NOTHING_KNOWN, Known

_MOST = 50
"""Values of one column that are kept."""
_ROWS = ("_fit_X", "X_train_", "support_vectors_", "cluster_centers_", "theta_", "means_", "mean_", "centroids_")
"""Attributes of [rows, columns] or [columns] whose values are within the range of the training data."""


def known_values(model: Any, signature: Signature) -> Known:
    """For each input the values that its elements had in training; none if nothing shows them or inspection fails."""
    try:
        return _known_values(model, signature)
    except Exception:  # noqa: BLE001 -- models of other packages look like scikit-learn's but are not
        return NOTHING_KNOWN


def _known_values(model: Any, signature: Signature) -> Known:
    if reads_text(model):
        return {signature.inputs[0].name: [words]} if (words := _words(model)) else NOTHING_KNOWN
    count = int(getattr(model, "n_features_in_", 0))
    names = [str(name) for name in getattr(model, "feature_names_in_", range(count))]
    found = _values_of(model, list(range(len(names))), names)
    if {i.trained_name for i in signature.inputs} <= set(names):
        return {i.name: [found.get(names.index(i.trained_name), [])] for i in signature.inputs}
    elements, start = {}, 0
    for wanted in signature.inputs:
        width = wanted.length or 1
        elements[wanted.name] = [found.get(n, []) for n in range(start, start + width)]
        start += width
    return elements


_Values = dict[int, list[Any]]
"""Values by the index of a column of training."""


def _values_of(model: Any, columns: Sequence[int], names: Sequence[str]) -> _Values:
    """The values that a model, or a part of one, shows of the columns that it gets."""
    if isinstance(model, ColumnTransformer):
        here = [names[at] for at in columns]
        parts = []
        for _, step, picked in fitted_parts(model):
            chosen = [columns[here.index(name)] for name in picked_names(picked, here)]
            if not reads_text(step):
                parts.append(_values_of(step, chosen, names))
            elif chosen and (words := _words(step)):
                parts.append({chosen[0]: words})
        return _merged(parts)
    if isinstance(model, Pipeline):
        return _merged(_values_of(step, columns, names) for step in _first_steps(model))
    if isinstance(model, FeatureUnion):
        return _merged(_values_of(step, columns, names) for _, step in model.transformer_list)
    readers = (_categories, _scaled, _powers, _quantiles, _bins, _trees, _rows)
    own: list[list[Any]] = next((found for read in readers if (found := read(model))), [])
    if any(own):
        return {column: values[:_MOST] for column, values in zip(columns, own, strict=False) if values}
    return _merged(_values_of(step, columns, names) for step in inner_models(model))


def _first_steps(model: Any) -> Iterator[Any]:
    """The steps that get the pipeline's own values."""
    for step in working_steps(model):
        yield step
        is_identity = isinstance(step, FunctionTransformer) and step.func is None
        if not is_identity and not isinstance(step, SimpleImputer):
            return


def _merged(parts: Iterable[_Values]) -> _Values:
    whole: _Values = {}
    for part in parts:
        for column, values in part.items():
            whole[column] = [*whole.get(column, []), *values]
    return whole


def _categories(model: Any) -> list[list[Any]]:
    """The categories of encoders, and the values that an imputer uses for missing ones."""
    if fills_in(model):
        return []
    if isinstance(model, SimpleImputer):
        return [_usable([value]) for value in getattr(model, "statistics_", ())]
    return [_usable(values.tolist()) for values in getattr(model, "categories_", ()) if hasattr(values, "tolist")]


def _scaled(model: Any) -> list[list[Any]]:
    lowest, highest = (getattr(model, name, None) for name in ("data_min_", "data_max_"))
    if lowest is not None and highest is not None:
        middle = (np.asarray(lowest) + np.asarray(highest)) / 2
        return _table([middle, lowest, highest])
    middle = next((m for name in ("mean_", "center_") if (m := getattr(model, name, None)) is not None), None)
    scale = getattr(model, "scale_", None)
    if middle is not None and scale is not None:
        step = np.asarray(scale) / 2  # within the range even if the values are far from normal
        return _table([middle, middle + step, middle - step])
    return _table([model.max_abs_]) if hasattr(model, "max_abs_") else []


def _powers(model: Any) -> list[list[Any]]:
    if not isinstance(model, PowerTransformer) or not hasattr(model, "lambdas_"):
        return []
    inner = np.linspace(-0.5, 0.5, 3)[:, None] * np.ones(len(model.lambdas_))
    return _table(model.inverse_transform(inner))


def _quantiles(model: Any) -> list[list[Any]]:
    found: Any = getattr(model, "quantiles_", None)
    return _table(found[len(found) // 4 :: max(1, len(found) // 4)]) if getattr(found, "ndim", 0) == 2 else []


def _bins(model: Any) -> list[list[Any]]:
    mapper = getattr(model, "_bin_mapper", None)
    if mapper is not None and getattr(model, "_preprocessor", None) is None:
        return [_usable(list(edges)) for edges in mapper.bin_thresholds_]
    return [_usable(list(edges)) for edges in getattr(model, "bin_edges_", ())]


def _trees(model: Any) -> list[list[Any]]:
    first = next(iter(np.ravel(getattr(model, "estimators_", ()))), model) if not hasattr(model, "tree_") else model
    tree = getattr(first, "tree_", None)
    if tree is None or hasattr(model, "estimators_features_"):  # bagging shows each tree other columns
        return []
    return [_usable(tree.threshold[tree.feature == n].tolist()) for n in range(tree.n_features)]


def _rows(model: Any) -> list[list[Any]]:
    for name in _ROWS:
        found = getattr(model, name, None)
        if isinstance(found, np.ndarray) and found.ndim in (1, 2) and found.shape[-1] == model.n_features_in_:
            return _table(np.atleast_2d(found)[:_MOST])
    return []


def _table(rows: Any) -> list[list[Any]]:
    return [_usable(column) for column in np.asarray(rows).T.tolist()]


def _usable(values: Sequence[Any]) -> list[Any]:
    """The values without missing and infinite ones."""
    return [value for value in values if value is not None and value == value and value not in (np.inf, -np.inf)]  # noqa: PLR0124 -- NaN


def _words(model: Any) -> list[str]:
    """Words that a vectorizer in the model was fitted on."""
    vocabulary = getattr(model, "vocabulary_", None)
    if isinstance(vocabulary, dict):
        return [str(word) for word in list(vocabulary)[:_MOST]]
    parts = [step for _, step in getattr(model, "transformer_list", ())]
    parts += working_steps(model)[:1] if isinstance(model, Pipeline) else inner_models(model)
    return next((words for part in parts if (words := _words(part))), [])
