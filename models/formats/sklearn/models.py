"""A fitted scikit-learn model, however its file was written: what it gives, and how it scores Arrow columns."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from scorebeat.core.errors import OutputError, StoreError, text
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import Described, Given, Model, Signature
from scorebeat.models.formats.shared.labels import Labels, settles_by_probability
from scorebeat.models.formats.shared.null_blame import explain
from scorebeat.models.formats.shared.tensors import typed
from scorebeat.models.formats.sklearn.columns import runs_own_code
from scorebeat.models.formats.sklearn.inputs import FRAME, MATRIX, OBJECTS, Fed, Feed, fed, feed
from scorebeat.models.formats.sklearn.outputs import (
    BY_CLASS,
    CLASSES,
    COUNT,
    DETECTOR,
    EMBEDDING,
    GIVES,
    LABELS,
    NONE,
    PROBABILITIES,
    VALUES,
    Look,
    dense,
    estimator_kind,
    gives,
    has_several_labels,
    is_of_scikit_learn,
    one_a_row,
    probability_columns,
    score_of,
    several_a_row,
    value_columns,
)
from scorebeat.models.formats.sklearn.training_values import known_values
from scorebeat.models.inputs.samples import trial_rows
from scorebeat.models.outputs.checks import assembled
from scorebeat.models.outputs.column_names import LABEL, output_schema
from scorebeat.models.scoring.apart import by_nulls, changed_by_null
from scorebeat.models.scoring.containment import contained

_FED = "fed"
"""The option that keeps what the model's predict() takes."""
_LOOK_ROWS = 5
_NO_WORD = "could not convert string to float"
"""What NumPy says of a word in a matrix of numbers."""


def describe(model: Any, given: Given, file: str) -> Described:
    """What the model wants and gives. Raises StoreError for one that cannot be used."""
    _require_method(model, file)
    _require_fitted(model, file)
    wanted = fed(model, given.inputs, file)
    if given.sample is not None:
        wanted = replace(wanted, trial=trial_rows(Signature(wanted.inputs, pa.schema([])), given, 1))
    _require_words(model, wanted, file)
    found = gives(model, _look(model, wanted), given.outputs, file)
    # names of the labels alone are in the fields already
    named = () if len(given.outputs) == found.options.get(COUNT) else given.outputs
    signature = Signature(wanted.inputs, output_schema(found.fields, named, file))
    return Described(signature, {_FED: wanted.kind, **found.kept}, wanted.notes, wanted.unsure)


def ready(model: Any, artifact: Artifact) -> Model:
    """The model as `describe` found it, ready to score. Raises ModelError where a package that it needs is absent."""
    signature = artifact.signature
    fed_as = artifact.options.get(_FED, MATRIX)
    made = _made(model, artifact, feed(fed_as, model, signature.inputs))
    if fed_as in (FRAME, OBJECTS) and runs_own_code(model):
        made.apart = changed_by_null(signature.inputs)
    return made


def _made(model: Any, artifact: Artifact, how: Feed) -> "SklearnModel":
    signature, options = artifact.signature, artifact.options
    if options.get(GIVES, CLASSES if estimator_kind(model) == "classifier" else VALUES) == CLASSES:
        proba = options.get(PROBABILITIES, BY_CLASS) == BY_CLASS and hasattr(model, "predict_proba")
        return (ProbabilityModel if proba else LabelModel)(model, how, signature.outputs)
    made: dict[str, Callable[[], SklearnModel]] = {
        LABELS: lambda: LabelsModel(model, how, signature.outputs, options),
        DETECTOR: lambda: DetectorModel(model, how, signature.outputs),
        EMBEDDING: lambda: EmbeddingModel(model, how, signature.outputs),
    }
    return made.get(options.get(GIVES, VALUES), lambda: ValueModel(model, how, signature.outputs))()


class SklearnModel:
    """A scikit-learn model. NULL reaches it as NaN, or as it was in training: it alone knows what it takes.

    (The tag `allow_nan` does not know: it is False for a pipeline that begins with an imputer.)
    """

    apart: tuple[str, ...] = ()
    """Inputs whose dtype a NULL changes, where the model's own code may tell."""

    def __init__(self, model: Any, feed: Feed, outputs: pa.Schema) -> None:
        self.model = model
        self.feed = feed
        self.outputs = outputs
        self.thread_safe = is_of_scikit_learn(model)

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        if not rows.num_rows:  # scikit-learn refuses a matrix without rows
            return pa.RecordBatch.from_pylist([], schema=self.outputs)
        try:
            columns = self._score(rows)
        except (TypeError, ValueError) as error:
            raise explain(rows, error, self._score, partial(known_values, self.model)) from error
        return assembled(columns, self.outputs.names)

    def _score(self, rows: pa.RecordBatch) -> Sequence[pa.Array]:
        with _nameless():
            return by_nulls(rows, self.apart, self.columns)

    def columns(self, rows: pa.RecordBatch) -> list[pa.Array]:
        """The output columns for these rows."""
        raise NotImplementedError

    def ask(self, method: str, rows: pa.RecordBatch) -> Any:
        """What that method of the model returns; what it is fed is made for it alone, because it may write to it."""
        return getattr(self.model, method)(writable(self.feed(rows)))


class ProbabilityModel(SklearnModel):
    """A classifier with probabilities: its label, then one column a class in the order of `classes_`."""

    returns_new_arrays = True

    def __init__(self, model: Any, feed: Feed, outputs: pa.Schema) -> None:
        super().__init__(model, feed, outputs)
        self.labels = Labels(model.classes_)
        self.settles = settles_by_probability(model) and not has_several_labels(model)

    def columns(self, rows: pa.RecordBatch) -> list[pa.Array]:
        probabilities = np.array(self.ask("predict_proba", rows), dtype=np.float64, order="F")
        if probabilities.shape != (rows.num_rows, len(self.labels.values)):
            raise OutputError(
                f"the model returned probabilities of the shape {list(probabilities.shape)} for {rows.num_rows} rows, "
                f"expected one for each of {len(self.labels.values)} classes"
            )
        if self.settles:
            labels = self.labels.likeliest(probabilities, lambda near: self.ask("predict", rows.take(pa.array(near))))
        else:
            labels = self.labels.named(self.ask("predict", rows))
        return [labels, *map(pa.array, probabilities.T)]


class LabelModel(SklearnModel):
    """A classifier without probabilities: its label alone."""

    def __init__(self, model: Any, feed: Feed, outputs: pa.Schema) -> None:
        super().__init__(model, feed, outputs)
        self.labels = Labels(model.classes_)

    def columns(self, rows: pa.RecordBatch) -> list[pa.Array]:
        return [self.labels.named(self.ask("predict", rows))]


class LabelsModel(SklearnModel):
    """A classifier of several labels a row: each of them, then their probabilities if it has such."""

    def __init__(self, model: Any, feed: Feed, outputs: pa.Schema, options: Mapping[str, Any]) -> None:
        super().__init__(model, feed, outputs)
        self.count = int(options[COUNT])
        self.probabilities = str(options[PROBABILITIES])

    def columns(self, rows: pa.RecordBatch) -> list[pa.Array]:
        labels = several_a_row(self.ask("predict", rows), self.count)
        columns = [typed(each, f.type, f.name) for each, f in zip(labels, self.outputs, strict=False)]
        if self.probabilities == NONE:
            return columns
        return columns + probability_columns(self.ask("predict_proba", rows), self.probabilities, self.count)


class ValueModel(SklearnModel):
    """What predict() returns, as it is: a regressor's values, a clusterer's label, a DataFrame's columns."""

    def columns(self, rows: pa.RecordBatch) -> list[pa.Array]:
        return value_columns(self.ask("predict", rows), self.outputs)


class DetectorModel(SklearnModel):
    """An outlier detector: its label, -1 or 1, and how normal the row is."""

    def columns(self, rows: pa.RecordBatch) -> list[pa.Array]:
        columns = [typed(one_a_row(self.ask("predict", rows)), pa.int64(), LABEL)]
        score = score_of(self.model)
        if score is None:
            return columns
        return [*columns, typed(one_a_row(self.ask(score, rows)), pa.float64(), "score")]


class EmbeddingModel(SklearnModel):
    """A transformer: the vector of each row."""

    def columns(self, rows: pa.RecordBatch) -> list[pa.Array]:
        field = self.outputs.field(0)
        found = dense(self.ask("transform", rows))
        if found.ndim != 2:
            raise OutputError(f"the model returned vectors of the shape {list(found.shape)}, expected [rows, values]")
        flat = typed(np.ascontiguousarray(found, dtype=found.dtype).ravel(), field.type.value_type, field.name)
        return [pa.FixedSizeListArray.from_arrays(flat, found.shape[1]).cast(field.type)]


def writable(x: Any) -> Any:
    """The same, or a copy where it is an array over Arrow's memory: a predict() may write to what it is fed."""
    return np.require(x, requirements="W") if isinstance(x, np.ndarray) else x


def _require_method(model: Any, file: str) -> None:
    scores = callable(getattr(model, "predict", None))
    embeds = callable(getattr(model, "transform", None)) and callable(getattr(model, "fit", None))
    if isinstance(model, type) or not (scores or embeds):
        raise StoreError(
            f"{file} holds a {type(model).__name__}, which has no predict() for new rows as scikit-learn's models do, "
            "and no transform()"
        )


def _require_fitted(model: Any, file: str) -> None:
    """Raises StoreError for a model that was not fitted. Others than scikit-learn's keep no rule but `classes_`."""
    try:
        check_is_fitted(model)
    except NotFittedError:  # an AttributeError too, so it comes first
        is_own = type(model).__module__.startswith("sklearn.")
        if is_own or (estimator_kind(model) == "classifier" and not hasattr(model, "classes_")):
            raise StoreError(
                f"{file} holds a {type(model).__name__} that is not fitted: call fit() before it is written"
            ) from None
    except (TypeError, AttributeError):  # no estimator of scikit-learn's kind: it is taken as it is
        return


def _require_words(model: Any, wanted: Fed, file: str) -> None:
    """Raises StoreError where --inputs says that a column is text, and the model takes it for a number."""
    if not wanted.said_text:
        return
    try:
        with _nameless(), contained():
            model.predict(feed(wanted.kind, model, wanted.inputs)(wanted.words))
    except Exception as error:  # it may refuse a word that it never saw, in any way
        if _NO_WORD in text(error):
            raise StoreError(
                f"{file} takes numbers, but --inputs says that {', '.join(wanted.said_text)} is text: leave the type "
                "out, and cast the column in the query"
            ) from error


def _look(model: Any, wanted: Fed) -> Look:
    """The model's methods over the invented row, a few times: of one row alone the shape does not tell its axes."""
    rows = wanted.trial.take(pa.array([0] * _LOOK_ROWS)) if wanted.trial.num_rows == 1 else wanted.trial
    make = feed(wanted.kind, model, wanted.inputs)

    def ask(method: str) -> Any:
        with _nameless(), contained():
            return getattr(model, method)(writable(make(rows)))

    return Look(ask, rows.num_rows)


@contextmanager
def _nameless() -> Iterator[None]:
    """A matrix without names may pass: its columns are in the order of training. So may names after none."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X (does not have valid feature names|has feature names, but)")
        yield
