"""The columns that a model of XGBoost, LightGBM or CatBoost was fitted on: the names and categories in its file.

The model is the library's own or its scikit-learn estimator. None of the libraries is imported here.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from scorebeat.core.errors import StoreError
from scorebeat.models.contract import Input, Trained

_CATEGORICAL = re.compile(r"^\[categorical_feature: ([\d,]*)\]$", re.MULTILINE)
UNNAMED = re.compile(r"Column_\d+")
_EXACT = 2**53
"""Above this float64 does not distinguish neighbouring whole numbers."""


def library_of(model: Any) -> str:
    """The library that a model's class, or one of its base classes, belongs to; empty for any other."""
    modules = (base.__module__.partition(".")[0] for base in type(model).__mro__)
    return next((module for module in modules if module in _READERS), "")


def trained_columns(model: Any) -> list[Input]:
    """The columns of training in their order; none if the model has no names for them, or is no such model.

    Raises StoreError for categories whose values the model does not store, or that no column holds.
    """
    library = library_of(model)
    return _READERS[library](model) if library else []


def value_type(values: Sequence[Any]) -> pa.DataType | None:
    """The type of a column that feeds such values; None for values that no column holds.

    Any column of numbers feeds whole numbers, unless float64 would round them.
    """
    if all(isinstance(value, str) for value in values):
        return pa.string()
    if all(isinstance(value, bool) for value in values):
        return pa.bool_()
    if not all(isinstance(value, int | float) for value in values):
        return None
    return pa.int64() if any(abs(value) > _EXACT for value in values) else pa.float64()


def _lightgbm(model: Any) -> list[Input]:
    booster = getattr(model, "booster_", model)
    names = [str(name) for name in booster.feature_name()]
    categories = booster.pandas_categorical or []
    if not categories:
        return [] if all(map(UNNAMED.fullmatch, names)) else [Input(name, pa.float64()) for name in names]
    found = _CATEGORICAL.search(booster.model_to_string(num_iteration=1))
    positions = [int(at) for at in found[1].split(",") if at] if found else []
    if len(positions) != len(categories):  # positions are of unordered categories only, or of other columns
        raise StoreError(
            f"LightGBM was fitted on {len(categories)} columns of pandas categories, and keeps which columns they are "
            f"of {len(positions)} only: fit it with unordered categories and without categorical_feature=, or wrap "
            "the model in a Python class"
        )
    own = dict(zip(positions, categories, strict=True))
    return [
        _category(name, own[at], "LightGBM") if at in own else Input(name, pa.float64())
        for at, name in enumerate(names)
    ]


def _xgboost(model: Any) -> list[Input]:
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    names = [str(name) for name in booster.feature_names or ()]
    coded = [at for at, kind in enumerate(booster.feature_types or ()) if kind == "c"]
    if not coded:
        return [Input(name, pa.float64()) for name in names]
    get_categories = getattr(booster, "get_categories", None)
    found = dict((get_categories(export_to_arrow=True).to_arrow() if get_categories else None) or ())
    absent = [names[at] if names else str(at) for at in coded if not names or found.get(names[at]) is None]
    if absent:
        raise StoreError(
            f"XGBoost was trained on categories ({', '.join(absent)}), and its file has their codes without their "
            "values: train and save it with XGBoost 3.1 or newer on a DataFrame of pandas categories, encode them in "
            "training, or wrap the model in a Python class"
        )
    inputs = []
    for name in names:
        values = found.get(name)
        if values is None:
            inputs.append(Input(name, pa.float64()))
            continue
        own = _category(name, values.to_pylist(), "XGBoost")
        if pa.types.is_integer(values.type) and not pa.types.is_int64(values.type):
            # XGBoost refuses whole numbers of another width than in training
            own = replace(own, trained=replace(own.trained, index=str(values.type)))
        inputs.append(own)
    return inputs


def _catboost(model: Any) -> list[Input]:
    names = [str(name) for name in getattr(model, "feature_names_", None) or ()]
    if names == [str(at) for at in range(len(names))]:
        names = []
    text_positions = {*model.get_cat_feature_indices(), *model.get_text_feature_indices()} if names else set()
    plain = Trained(dtype="object")  # CatBoost uses the text of a category, whatever its type: 1 is "1"
    return [
        Input(name, pa.string(), None, plain) if at in text_positions else Input(name, pa.float64())
        for at, name in enumerate(names)
    ]


def _category(name: str, categories: Sequence[Any], library: str) -> Input:
    values = [getattr(value, "item", lambda value=value: value)() for value in categories]
    kind = value_type(values)
    if kind is None:
        raise StoreError(
            f"{library} was fitted on the categories {', '.join(map(repr, values[:3]))} of {name}, which are neither "
            "texts nor numbers nor truth values: encode them in training"
        )
    return Input(name, kind, None, Trained(dtype="category", categories=tuple(values)))


_READERS: dict[str, Callable[[Any], list[Input]]] = {
    "lightgbm": _lightgbm,
    "xgboost": _xgboost,
    "catboost": _catboost,
}
