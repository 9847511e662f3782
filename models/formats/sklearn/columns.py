"""The columns that a scikit-learn model was fitted on: names, types and missing values, as far as the model shows."""

import datetime as dt
import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer

from scorebeat.models.contract import Trained
from scorebeat.models.formats.shared.booster_columns import library_of, trained_columns, value_type
from scorebeat.models.formats.shared.labels import predicts_as_written

_KEEPS_COLUMNS = (SimpleImputer, FunctionTransformer)
"""Steps that mostly return the columns that they get."""
_BY_COLUMN = frozenset({"ColumnTransformer", "OneHotEncoder", "OrdinalEncoder", "TargetEncoder"})
"""scikit-learn's estimators that use more of a DataFrame than its matrix of numbers."""
_READ_AS_NUMBERS = frozenset({"sklearn", "lightgbm", "xgboost", "catboost"})
"""Libraries whose other estimators first convert a DataFrame to a matrix of numbers."""
_WRAPPERS = frozenset(
    {
        "CalibratedClassifierCV",
        "FixedThresholdClassifier",
        "FrozenEstimator",
        "GridSearchCV",
        "HalvingGridSearchCV",
        "HalvingRandomSearchCV",
        "RandomizedSearchCV",
        "TransformedTargetRegressor",
        "TunedThresholdClassifierCV",
    }
)
"""scikit-learn's estimators that wrap another one and read no column themselves."""
_TEXT = Trained()


@dataclass(frozen=True)
class Column:
    """What is known of a column, from the steps that were fitted on it."""

    type: pa.DataType
    example: Any
    """A value that the model knows."""
    trained: Trained
    is_sure: bool = True
    """Whether its type is certain: the steps learnt a value, and no function of the model's author runs before them."""


def parts(model: Any) -> Iterator[Any]:
    """The model and all estimators, transformers and templates within it."""
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list | tuple):
            waiting += [each for each in part if not isinstance(each, str | int | float)]
        elif isinstance(part, dict):
            waiting += part.values()
        elif isinstance(part, np.ndarray) and part.dtype == object:
            waiting += part.ravel().tolist()
        elif id(part) not in seen and any(hasattr(part, method) for method in ("fit", "predict", "transform")):
            seen.add(id(part))
            yield part
            waiting += getattr(part, "__dict__", {}).values()


def reads_numbers(model: Any) -> bool:
    """Whether a matrix of numbers leads to the same predictions as a DataFrame: no part reads names or dtypes."""
    for part in parts(model):
        module, name = type(part).__module__.partition(".")[0], type(part).__name__
        if module not in _READ_AS_NUMBERS or name in _BY_COLUMN or _is_own(part):
            return False
        if getattr(part, "_sklearn_output_config", None):  # it passes a DataFrame on
            return False
    return True


def begins_with_own_code(model: Any) -> bool:
    """Whether the rows first go into a class or function of the model's author."""
    first = _first_parts(model)
    if isinstance(model, Pipeline) or first:
        return any(map(begins_with_own_code, first))
    return _is_own(model)


def runs_own_code(model: Any) -> bool:
    """Whether it contains a class or function of the model's author."""
    return any(map(_is_own, parts(model)))


def training_names(model: Any) -> list[str]:
    """The names of the columns that the model was fitted on; none if the model lacks them."""
    names = getattr(model, "feature_names_in_", None)
    if names is not None:
        return [str(name) for name in names]
    if library_of(model):
        return [i.name for i in trained_columns(model)]
    return next((found for step in _first_parts(model) if (found := training_names(step))), [])


def fills_in(model: Any) -> bool:
    """Whether it fills missing values of any type with a constant, which shows nothing of the columns."""
    if not isinstance(model, SimpleImputer) or model.strategy != "constant":
        return False
    return bool(getattr(model, "statistics_", np.empty(0)).dtype == object)


def reads_text(model: Any) -> bool:
    """Whether its input is one text a row instead of columns: it begins with a text vectorizer."""
    if isinstance(model, Pipeline):
        return any(reads_text(step) for step in working_steps(model)[:1])
    if isinstance(model, FeatureUnion):
        return all(reads_text(step) for _, step in model.transformer_list)
    return isinstance(model, CountVectorizer | HashingVectorizer) or any(map(reads_text, inner_models(model)))


def picks_by_name(model: Any) -> bool:
    """Whether a ColumnTransformer in it picks columns by name, as from a DataFrame."""
    picked = [columns for part in parts(model) for _, _, columns in fitted_parts(part)]
    return any(isinstance(column, str) for columns in picked for column in np.atleast_1d(columns).tolist())


def used(model: Any, names: Sequence[str]) -> list[str]:
    """The columns that the model uses: without those that a ColumnTransformer at its beginning drops.

    Only scikit-learn's own pipelines and wrappers are followed: other code, and ensembles, may read every column.
    """
    if not predicts_as_written(model):
        return [*names]
    if isinstance(model, ColumnTransformer):
        kept = {
            name for _, step, columns in fitted_parts(model) if step != "drop" for name in picked_names(columns, names)
        }
    elif isinstance(model, Pipeline) or type(model).__name__ in _WRAPPERS:
        kept = {name for step in _first_parts(model) for name in used(step, names)} or set(names)
    else:
        return [*names]
    return [name for name in names if name in kept]


def known_columns(model: Any, names: Sequence[str]) -> dict[str, Column]:
    """What encoders, imputers, vectorizers and trees show of the columns that they were fitted on."""
    found = _known_columns(model, names)
    plain = {re.sub(r"\W", "_", name): name for name in names}
    for column in (column for part in parts(model) if library_of(part) for column in trained_columns(part)):
        name = plain.get(re.sub(r"\W", "_", column.name)) or plain.get(column.name.partition("__")[2])
        if column.trained.categories and name:  # a transformer before the trees passed its categories on
            found[name] = _booster_column(column.type, column.trained)
    return found


def _known_columns(model: Any, names: Sequence[str]) -> dict[str, Column]:
    if isinstance(model, ColumnTransformer):
        picks = [(step, picked_names(columns, names)) for _, step, columns in fitted_parts(model)]
        return _merged(_known_columns(step, picked) for step, picked in picks)
    if isinstance(model, Pipeline):
        return _merged(_known_by_steps(model, names))
    if isinstance(model, FeatureUnion):
        return _merged(_known_columns(step, names) for _, step in model.transformer_list)
    if isinstance(model, CountVectorizer | HashingVectorizer):
        return dict.fromkeys(names[:1], Column(pa.string(), "text", _TEXT))
    if library_of(model):
        columns = trained_columns(model)
        return {
            name: _booster_column(column.type, column.trained)
            for name, column in zip(names, columns, strict=len(names) == len(columns))
            if column.trained.dtype
        }
    stored = [values for values in getattr(model, "categories_", ()) if isinstance(values, np.ndarray)]
    if isinstance(model, SimpleImputer) and hasattr(model, "statistics_"):
        stored = [*model.statistics_.reshape(-1, 1)]  # of each column one value
    known = zip(names, stored, strict=False)
    found = {name: column for name, values in known if (column := _column(model, values.tolist(), values.dtype))}
    return found or _merged(_known_columns(step, names) for step in inner_models(model))


def _known_by_steps(pipeline: Any, names: Sequence[str]) -> Iterator[dict[str, Column]]:
    """What each step that gets the pipeline's own columns shows of them.

    After a function of the model's author only columns of texts are assumed to be unchanged, under the same name.
    """
    is_sure = True
    for step in working_steps(pipeline):
        if not is_sure and getattr(step, "n_features_in_", len(names)) != len(names):
            names = ()  # the function added or removed columns, so positions show nothing
        found = _known_columns(step, names)
        yield (
            found
            if is_sure
            else {name: replace(column, is_sure=False) for name, column in found.items() if column.type == pa.string()}
        )
        if isinstance(step, ColumnTransformer) and is_sure:
            yield _passed_on(step, names, pipeline)
        if not isinstance(step, _KEEPS_COLUMNS):
            return
        is_sure = is_sure and not _is_own(step)


def _passed_on(transformer: Any, names: Sequence[str], pipeline: Any) -> dict[str, Column]:
    """What later steps of the pipeline show of the columns that a transformer passes on as they are."""
    passed = {
        name
        for _, step, columns in fitted_parts(transformer)
        if step == "passthrough" or (isinstance(step, FunctionTransformer) and step.func is None)
        for name in picked_names(columns, names)
    }
    following = working_steps(pipeline)[working_steps(pipeline).index(transformer) + 1 :]
    if not passed or not following:
        return {}
    names_out = [str(name) for name in transformer.get_feature_names_out()]
    found = _merged(_known_by_steps(Pipeline([(str(at), step) for at, step in enumerate(following)]), names_out))
    own = {name: name if name in passed else name.partition("__")[2] for name in found}
    return {own[name]: column for name, column in found.items() if own[name] in passed}


def _is_own(part: Any) -> bool:
    """Whether it is a class of the model's author, or calls a function of theirs."""
    if isinstance(part, FunctionTransformer):
        function = part.func
        while isinstance(function, functools.partial | np.vectorize):  # what these call in the end
            function = function.func if isinstance(function, functools.partial) else function.pyfunc
        module = getattr(function, "__module__", None) or type(function).__module__
        return function is not None and module.partition(".")[0] not in ("numpy", "sklearn")
    return type(part).__module__.partition(".")[0] not in _READ_AS_NUMBERS


def working_steps(model: Any) -> list[Any]:
    return [step for _, step in model.steps if step is not None and step != "passthrough"]


def _first_parts(model: Any) -> list[Any]:
    """The parts that get the model's rows first."""
    return working_steps(model)[:1] if isinstance(model, Pipeline) else inner_models(model)


def fitted_parts(model: Any) -> Sequence[tuple[str, Any, Any]]:
    """Name, transformer and columns of each part of a ColumnTransformer; none if it is not fitted."""
    return getattr(model, "transformers_", ()) if isinstance(model, ColumnTransformer) else ()


def inner_models(model: Any) -> list[Any]:
    """The models within it that get the same rows."""
    if isinstance(model, FrozenEstimator):
        return [model.estimator]
    around = ("best_estimator_", "estimator_", "regressor_", "_preprocessor")
    found = [inner for name in around if (inner := getattr(model, name, None)) is not None]
    found += [calibrated.estimator for calibrated in getattr(model, "calibrated_classifiers_", ())]
    several = getattr(model, "estimators_", None)
    found += several if isinstance(several, list) else []
    count = getattr(model, "n_features_in_", None)
    return [inner for inner in found if count is None or getattr(inner, "n_features_in_", count) == count]


def _column(model: Any, values: Sequence[Any], dtype: "np.dtype[Any]") -> Column | None:
    """What the values that a step stored show of its column; None if nothing."""
    null = "None" if None in values or getattr(model, "missing_values", np.nan) is None else "NaN"
    if dtype.kind == "M":
        return Column(pa.timestamp("us"), np.datetime64(values[0], "us"), Trained(dtype=str(dtype), null=null))
    present = [value for value in values if value is not None and value == value]  # noqa: PLR0124 -- NaN is not itself
    if present and all(type(value) is dt.date for value in present):
        return Column(pa.date32(), present[0], Trained())
    kind = value_type(present) if present else None
    if kind is None:
        return None
    is_object = dtype.kind == "O" and kind != pa.string()
    is_whole_row = isinstance(model, SimpleImputer) and null == "NaN" and kind != pa.bool_()
    dtype_name = "object" if is_object and not is_whole_row else ""
    return Column(kind, present[0], Trained(dtype=dtype_name, null=null), is_sure=not fills_in(model))


def _booster_column(kind: pa.DataType, trained: Trained) -> Column:
    example = trained.categories[0] if trained.categories else "text"
    return Column(kind, example, trained, is_sure=bool(trained.categories))


def picked_names(columns: Any, names: Sequence[str]) -> list[str]:
    """The names of the columns that a ColumnTransformer picks."""
    if isinstance(columns, slice):
        ends = [names.index(end) if isinstance(end, str) else end for end in (columns.start, columns.stop)]
        last = ends[1] + 1 if isinstance(columns.stop, str) else ends[1]  # a slice of names includes its last one
        return [*names[slice(ends[0], last, columns.step)]]
    chosen = np.atleast_1d(columns)
    if all(isinstance(column, str) for column in chosen.tolist()):
        return [str(column) for column in chosen]
    if not names:
        return []
    return [str(name) for name in np.asarray(names, dtype=object)[chosen]]


def _merged(found: Iterator[dict[str, Column]]) -> dict[str, Column]:
    """What several steps show of each column: the first certain one, with the most exact dtype; a missing value is None
    if any of them has None."""
    merged: dict[str, Column] = {}
    for columns in found:
        for name, column in columns.items():
            before = merged.get(name, column)
            first, other = (before, column) if before.is_sure or not column.is_sure else (column, before)
            null = "None" if "None" in (before.trained.null, column.trained.null) else first.trained.null
            exact = first.trained if first.trained.dtype else replace(other.trained)
            trained = replace(exact if first.type == other.type else first.trained, null=null)
            merged[name] = replace(first, trained=trained)
    return merged
