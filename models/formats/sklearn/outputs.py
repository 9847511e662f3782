"""The output columns of a fitted scikit-learn model, found by a few rows, and how they are read from its results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.utils import get_tags

from scorebeat.core.errors import OutputError, StoreError, one_line
from scorebeat.models.formats.shared.labels import Labels, class_columns
from scorebeat.models.formats.shared.tensors import Fields, typed
from scorebeat.models.inputs.matrix import Matrix
from scorebeat.models.outputs.column_names import LABEL

CLASSES, LABELS, DETECTOR, VALUES, EMBEDDING = "classes", "labels", "detector", "values", "embedding"
"""Kinds: one label a row, several labels, an outlier's label and score, values, or a transformer's vector."""
KIND, COUNT, PROBABILITIES = "gives", "labels", "probabilities"
"""The format's options: the kind, the number of labels, and the form of their probabilities."""
BY_CLASS, OF_EACH, NONE = "by class", "of each label", "none"
"""Forms of probabilities: of each class (an array a label), of each label (one array), none."""
_LIBRARIES = frozenset({"sklearn", "numpy", "scipy", "builtins"})
_INSTEAD = "Wrap it in a Python class that returns a dict of columns"


@dataclass(frozen=True)
class OutputPlan:
    """The output columns, and the options for reading them from what the model returns."""

    kind: str
    fields: Fields
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stored_options(self) -> dict[str, Any]:
        """The options that `load` needs."""
        return {KIND: self.kind, **self.options}


@dataclass(frozen=True)
class Preview:
    """Calls of the model's methods for a few rows."""

    call: Callable[[str], Any]
    """Calls the method of that name with the rows."""
    rows: int
    """Number of rows."""


def plan_outputs(model: Any, preview: Preview, named: Sequence[str], file: str) -> OutputPlan:
    """The outputs that the model returns for the rows of the preview; if it fails for these, those of its attributes.

    `named` are the names of --outputs. Raises StoreError if no columns can hold the outputs, or nothing shows them.
    """
    if not callable(getattr(model, "predict", None)):
        return _embedding(preview, file)
    try:
        found = preview.call("predict")
        predicted = _require_rows(found, preview.rows, file)
    except StoreError:
        raise
    except Exception as error:  # noqa: BLE001 -- invented rows may be refused in any way
        return _by_attributes(model, named, error, file)
    kind = estimator_kind(model)
    if kind == "classifier":
        several = predicted.ndim == 2 and predicted.shape[1] > 1
        return _labels(model, predicted, preview, named) if several else _classes(model, predicted, preview)
    if kind == "outlier_detector":
        return _detector(model)
    return OutputPlan(VALUES, _value_fields(found, predicted, is_regressor=kind == "regressor", file=file))


def estimator_kind(model: Any) -> str | None:
    """`classifier`, `regressor`, `clusterer` ... by its own tags; None if it has none."""
    try:
        found = get_tags(model).estimator_type
    except Exception:  # noqa: BLE001 -- an estimator of a user may lack tags, and fail in any way
        found = getattr(model, "_estimator_type", None)
    return None if found is None else str(found)


def is_of_scikit_learn(model: Any) -> bool:
    """Whether the model, and each estimator and function in its parameters, is scikit-learn's, NumPy's or SciPy's."""
    try:
        parts = [model, *model.get_params(deep=True).values()]
    except Exception:  # noqa: BLE001 -- it is no scikit-learn estimator
        return False
    modules = (
        str(getattr(part if callable(part) and hasattr(part, "__name__") else type(part), "__module__", "") or "")
        for part in _flat(parts)
        if callable(part) or hasattr(part, "get_params")
    )
    return all(module.partition(".")[0] in _LIBRARIES for module in modules)


def _flat(parts: Sequence[Any]) -> Iterator[Any]:
    for part in parts:
        if isinstance(part, list | tuple):
            yield from _flat(part)
        else:
            yield part


def has_several_labels(model: Any) -> bool:
    """Whether a classifier's attributes show that it was fitted on several labels a row."""
    last = model
    while hasattr(last, "steps") or hasattr(last, "best_estimator_"):
        last = last.steps[-1][1] if hasattr(last, "steps") else last.best_estimator_
    if isinstance(getattr(last, "classes_", None), list) or getattr(last, "multilabel_", False) is True:
        return True
    # a network with a score a label; of two classes it has one
    return getattr(last, "out_activation_", None) == "logistic" and last.n_outputs_ > 1


def score_of(model: Any) -> str | None:
    """The method of an outlier detector that scores how normal a row is; None if it has none."""
    return next((name for name in ("score_samples", "decision_function") if hasattr(model, name)), None)


def dense(values: Any) -> Matrix:
    """What a method returned, as an array of [rows] or [rows, values]: of a list, pandas, a sparse matrix."""
    to_array: Callable[[], Any] | None = getattr(values, "toarray", None)
    try:
        return np.asarray(values if to_array is None else to_array())
    except ValueError as error:  # rows of several lengths
        raise OutputError(
            f"the model returned values that are no [rows] or [rows, values]: {one_line(error)}"
        ) from error


def one_a_row(values: Any) -> Matrix:
    """As `dense`, of [rows] or [rows, 1]. Raises OutputError for several values a row."""
    found = dense(values)
    if found.ndim == 2 and found.shape[1] == 1:
        return found[:, 0]
    if found.ndim != 1:
        raise OutputError(
            f"the model returned {list(found.shape)} values, expected one a row. If it has several labels, add its "
            "file again: each of them becomes a column"
        )
    return found


def several_a_row(values: Any, count: int) -> list[Matrix]:
    """As `dense`, of [rows, count], by column. Raises OutputError for another number of columns."""
    found = dense(values)
    if found.ndim == 1 and count == 1:
        return [found]
    if found.ndim != 2 or found.shape[1] != count:
        raise OutputError(f"the model returned {list(found.shape)} values, expected {count} a row")
    return [*found.T]


def value_columns(predicted: Any, outputs: pa.Schema) -> list[pa.Array]:
    """The columns of kind VALUES. Raises OutputError for columns of another number or type."""
    if hasattr(predicted, "columns") and hasattr(predicted, "iloc"):  # a DataFrame
        if len(predicted.columns) != len(outputs):
            raise OutputError(f"the model returned the columns {', '.join(map(str, predicted.columns[:8]))}")
        columns = [predicted.iloc[:, at].to_numpy() for at in range(len(outputs))]
    else:
        columns = [one_a_row(predicted)] if len(outputs) == 1 else several_a_row(predicted, len(outputs))
    return [typed(values, each.type, each.name) for values, each in zip(columns, outputs, strict=True)]


def probability_columns(found: Any, form: str, count: int) -> list[pa.Array]:
    """The columns of probabilities of `count` labels: a list of [rows, classes], or [rows, labels]."""
    if form == NONE:
        return []
    if form == OF_EACH:
        return [typed(column, pa.float64(), LABEL) for column in several_a_row(found, count)]
    if len(found) != count:
        raise OutputError(f"the model returned probabilities of {len(found)} labels, expected {count}")
    return [typed(column, pa.float64(), LABEL) for each in found for column in dense(each).T]


def _require_rows(predicted: Any, rows: int, file: str) -> Matrix:
    """What predict() returned, as [rows] or [rows, values]. Raises StoreError if it is neither."""
    try:
        found = dense(predicted)
    except OutputError as error:
        raise StoreError(f"{file}: {error}. {_INSTEAD}") from error
    if isinstance(predicted, tuple) or found.ndim not in (1, 2) or len(found) != rows or found.size == 0:
        what = f"{type(predicted).__name__} of shape {list(found.shape)}"
        raise StoreError(
            f"{file}: predict() returned {what} for {rows} rows, expected one value or one list a row. {_INSTEAD}"
        )
    return found


def _classes(model: Any, predicted: Matrix, preview: Preview | None) -> OutputPlan:
    """A classifier's label, and its probabilities unless the preview shows that they are not one value a class."""
    known = getattr(model, "classes_", None)
    if known is None or isinstance(known, list) or np.ndim(known) != 1:
        kind = _type_of(one_a_row(predicted), "predict()")
        return OutputPlan(VALUES, [(LABEL, kind)])
    label = (LABEL, Labels(known).type)
    has_probabilities = hasattr(model, "predict_proba")
    if has_probabilities and preview is not None:
        try:
            has_probabilities = dense(preview.call("predict_proba")).shape == (preview.rows, len(known))
        except Exception:  # noqa: BLE001 -- the model's own code; the trial that follows reports its error
            has_probabilities = True  # other rows may not fail
    fields = [label, *((name, pa.float64()) for name in class_columns(np.asarray(known)) if has_probabilities)]
    return OutputPlan(CLASSES, fields, {PROBABILITIES: BY_CLASS if has_probabilities else NONE})


def _labels(model: Any, predicted: Matrix, preview: Preview, named: Sequence[str]) -> OutputPlan:
    known = getattr(model, "classes_", None)
    types = []
    for at in range(predicted.shape[1]):
        if isinstance(known, list) and at < len(known) and np.ndim(known[at]) == 1:
            types.append(Labels(np.asarray(known[at])).type)
        else:
            types.append(_type_of(predicted[:, at], "predict()"))
    try:
        found = preview.call("predict_proba") if hasattr(model, "predict_proba") else None
    except Exception:  # noqa: BLE001 -- the model's own code: then it has none
        found = None
    return _label_fields(model, types, found, named)


def _label_fields(model: Any, types: Sequence[pa.DataType], found: Any, named: Sequence[str]) -> OutputPlan:
    """A column a label, then columns of probabilities; `found` is a list of arrays, one array, or None."""
    count = len(types)
    own = list(named) if len(named) == count else [f"{LABEL}_{at}" for at in range(count)]
    fields: Fields = list(zip(own, types, strict=True))
    known = getattr(model, "classes_", None)
    form = NONE
    if isinstance(found, list) and len(found) == count:
        form = BY_CLASS
        for at, name in enumerate(own):
            width = dense(found[at]).shape[1]
            names = [f"class_{each}" for each in range(width)]
            if isinstance(known, list) and at < len(known) and len(known[at]) == width:
                names = class_columns(np.asarray(known[at]))
            fields += [(f"{name}_{each}", pa.float64()) for each in names]
    elif found is not None and dense(found).ndim == 2 and dense(found).shape[1] == count and _is_binary(known, count):
        form = OF_EACH
        fields += [(f"{name}_probability", pa.float64()) for name in own]
    return OutputPlan(LABELS, fields, {COUNT: count, PROBABILITIES: form})


def _is_binary(classes: Any, count: int) -> bool:
    """Whether one probability a label is enough, because each has two classes."""
    return not isinstance(classes, list) or (len(classes) == count and all(len(each) <= 2 for each in classes))


def _detector(model: Any) -> OutputPlan:
    fields: Fields = [(LABEL, pa.int64())]
    return OutputPlan(DETECTOR, fields + [("score", pa.float64())] * (score_of(model) is not None))


def _value_fields(predicted: Any, values: Matrix, *, is_regressor: bool, file: str) -> Fields:
    if hasattr(predicted, "columns") and hasattr(predicted, "iloc"):
        return [
            (str(name), _type_of(predicted.iloc[:, at].to_numpy(), f"{file}: column {name!r} of predict()"))
            for at, name in enumerate(predicted.columns)
        ]
    kind = _type_of(values.ravel(), f"{file}: predict()")
    if is_regressor and (pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        kind = pa.float64()
    is_label = pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_string(kind)
    name = LABEL if is_label and not is_regressor else "value"
    if values.ndim == 1 or values.shape[1] == 1:
        return [(name, kind)]
    return [(f"{name}_{at}", kind) for at in range(values.shape[1])]


def _embedding(preview: Preview, file: str) -> OutputPlan:
    """A transformer without predict(): one array column with the vector of each row."""
    found = dense(preview.call("transform"))
    if found.ndim != 2 or len(found) != preview.rows or not found.shape[1] or found.dtype.kind not in "fiub":
        raise StoreError(
            f"{file}: transform() returned {found.dtype} of shape {list(found.shape)} for {preview.rows} rows, "
            f"expected [rows, values] of numbers. {_INSTEAD}"
        )
    element = pa.float32() if found.dtype == np.float32 else pa.float64()
    return OutputPlan(EMBEDDING, [("embedding", pa.list_(element))])


def _by_attributes(model: Any, named: Sequence[str], error: Exception, file: str) -> OutputPlan:
    """The outputs by the attributes of a model that failed for the rows of the preview."""
    kind = estimator_kind(model)
    if kind == "classifier" and has_several_labels(model):
        known = getattr(model, "classes_", [])
        types = [Labels(each).type for each in known] if isinstance(known, list) else [pa.int64() for _ in known]
        return _label_fields(model, types, None, named)
    if kind == "classifier" and hasattr(model, "classes_"):
        return _classes(model, np.empty(0), None)
    if kind == "outlier_detector":
        return _detector(model)
    if kind in ("clusterer", "density_estimator"):
        return OutputPlan(VALUES, [(LABEL, pa.int64())])
    if kind == "regressor" and named:
        many = [f"value_{at}" for at in range(len(named))] if len(named) > 1 else ["value"]
        return OutputPlan(VALUES, [(name, pa.float64()) for name in many])
    raise StoreError(
        f"{file}: an invented row does not show how many values the model returns: {one_line(error)}. Name them with "
        "--outputs, or give rows of yours with --sample FILE"
    ) from error


def _type_of(values: Matrix, what: str) -> pa.DataType:
    """The type of a column for values: int64, float64, text, truth value, date or timestamp; else StoreError."""
    if values.dtype.kind in "iu":
        return pa.int64()
    if values.dtype.kind == "f":
        return pa.float64()
    try:
        found = pa.array(values.tolist() if values.dtype.kind == "O" else values, from_pandas=True).type
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise StoreError(f"{what} returned values that no column holds: {one_line(error)}. {_INSTEAD}") from error
    if pa.types.is_timestamp(found):
        return pa.timestamp("us", found.tz and "UTC")
    if pa.types.is_large_string(found):
        return pa.string()
    if found in (pa.bool_(), pa.string(), pa.int64(), pa.float64(), pa.date32()):
        return found
    raise StoreError(f"{what} returned values of the type {found}, which no column holds. {_INSTEAD}")
