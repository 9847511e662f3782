"""A fitted scikit-learn model from any format: its inputs and outputs, and scoring of Arrow columns."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from scorebeat.core.errors import OutputError, StoreError, text
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions, Described, Input, Model, Signature
from scorebeat.models.engines import NATIVE
from scorebeat.models.formats.shared.labels import Labels, label_follows_probability
from scorebeat.models.formats.shared.null_blame import explain
from scorebeat.models.formats.shared.tensors import typed
from scorebeat.models.formats.sklearn.columns import runs_own_code
from scorebeat.models.formats.sklearn.compiled.plan import reads_texts
from scorebeat.models.formats.sklearn.compiled.use import Call, compiled_call
from scorebeat.models.formats.sklearn.inputs import FRAME, MATRIX, OBJECTS, Feed, InputPlan, make_feed, plan_inputs
from scorebeat.models.formats.sklearn.outputs import (
    BY_CLASS,
    CLASSES,
    COUNT,
    DETECTOR,
    EMBEDDING,
    KIND,
    LABELS,
    NONE,
    PROBABILITIES,
    VALUES,
    Preview,
    dense,
    estimator_kind,
    has_several_labels,
    is_of_scikit_learn,
    one_a_row,
    plan_outputs,
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
"""The format's option with the kind of object that predict() takes."""
_PREVIEW_ROWS = 5
_NOT_A_NUMBER = "could not convert string to float"
"""NumPy's message for a word in a matrix of numbers."""


def describe(model: Any, add_options: AddOptions, file: str) -> Described:
    """The inputs and outputs of the model. Raises StoreError for one that cannot be used."""
    _require_method(model, file)
    _require_fitted(model, file)
    wanted = plan_inputs(model, add_options.inputs, file)
    if add_options.sample is not None:
        wanted = replace(wanted, trial=trial_rows(Signature(wanted.inputs, pa.schema([])), add_options, 1))
    _require_text_inputs(model, wanted, file)
    found = plan_outputs(model, _preview(model, wanted), add_options.outputs, file)
    # if --outputs names the labels only, the fields have these names already
    named = () if len(add_options.outputs) == found.options.get(COUNT) else add_options.outputs
    signature = Signature(wanted.inputs, output_schema(found.fields, named, file))
    return Described(signature, {_FED: wanted.kind, **found.stored_options}, wanted.notes, wanted.unsure)


def ready(model: Any, artifact: Artifact) -> Model:
    """The model as `describe` found it, ready to score. Raises ModelError if a package that it needs is absent."""
    inputs, outputs, options = artifact.signature.inputs, artifact.signature.outputs, artifact.options
    fed_as = options.get(_FED, MATRIX)
    feed = make_feed(fed_as, model, inputs)
    kind = options.get(KIND, CLASSES if estimator_kind(model) == "classifier" else VALUES)
    loaded: SklearnModel
    if kind == CLASSES:
        proba = options.get(PROBABILITIES, BY_CLASS) == BY_CLASS and hasattr(model, "predict_proba")
        loaded = (ProbabilityModel if proba else LabelModel)(model, feed, outputs)
    elif kind == LABELS:
        loaded = LabelsModel(model, feed, outputs, options)
    elif kind == DETECTOR:
        loaded = DetectorModel(model, feed, outputs)
    elif kind == EMBEDDING:
        loaded = EmbeddingModel(model, feed, outputs)
    else:
        loaded = ValueModel(model, feed, outputs)
    loaded.fed_as, loaded.inputs = fed_as, inputs
    if fed_as in (FRAME, OBJECTS) and runs_own_code(model):
        loaded.apart = changed_by_null(inputs)
    return loaded


class SklearnModel:
    """A scikit-learn model. NULL reaches it as NaN, or as it was in training; only the model can refuse it.

    (The tag `allow_nan` does not help: it is False for a pipeline that begins with an imputer.)
    """

    apart: tuple[str, ...] = ()
    """Inputs whose dtype a NULL changes, if the model's own code may depend on the dtype."""

    fed_as = MATRIX
    inputs: tuple[Input, ...] = ()

    def __init__(self, model: Any, feed: Feed, outputs: pa.Schema) -> None:
        self.model = model
        self.feed = feed
        self.outputs = outputs
        self.thread_safe = is_of_scikit_learn(model)
        self.engine = NATIVE
        self._call: Call = self.native
        self._compiled: Call | None = None

    @property
    def reads_texts(self) -> bool:
        """Whether a vectorizer of texts is in it."""
        return reads_texts(self.model)

    def use_engine(self, engine: str, cache: Path) -> None:
        """Score by this engine from now on; `cache` keeps machine code.

        Raises EngineUnavailable with the reason if the engine would not return the same numbers, or is not installed.
        """
        if engine == NATIVE:
            self._call = self.native
        else:
            self._compiled = self._compiled or compiled_call(self, cache)
            self._call = self._compiled
        self.engine = engine

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        if not rows.num_rows:  # scikit-learn refuses a matrix without rows
            return pa.RecordBatch.from_pylist([], schema=self.outputs)
        try:
            columns = self._score(rows)
        except (TypeError, ValueError) as error:
            raise explain(rows, error, self._score, partial(known_values, self.model)) from error
        return assembled(columns, self.outputs.names)

    def _score(self, rows: pa.RecordBatch) -> Sequence[pa.Array]:
        with _without_name_warnings():
            return by_nulls(rows, self.apart, self.columns)

    def columns(self, rows: pa.RecordBatch) -> list[pa.Array]:
        """The output columns for these rows."""
        raise NotImplementedError

    def call(self, method: str, rows: pa.RecordBatch) -> Any:
        """What a method of the model returns for the rows, by the engine in use."""
        return self._call(method, rows)

    def native(self, method: str, rows: pa.RecordBatch) -> Any:
        """What a method of the model itself returns. Its input is new, because it may write to it."""
        return getattr(self.model, method)(writable(self.feed(rows)))


class ProbabilityModel(SklearnModel):
    """A classifier with probabilities: its label, then one column a class in the order of `classes_`."""

    returns_new_arrays = True

    def __init__(self, model: Any, feed: Feed, outputs: pa.Schema) -> None:
        super().__init__(model, feed, outputs)
        self.labels = Labels(model.classes_)
        self.label_follows = label_follows_probability(model) and not has_several_labels(model)

    def columns(self, rows: pa.RecordBatch) -> list[pa.Array]:
        probabilities = np.array(self.call("predict_proba", rows), dtype=np.float64, order="F")
        if probabilities.shape != (rows.num_rows, len(self.labels.values)):
            raise OutputError(
                f"the model returned probabilities of the shape {list(probabilities.shape)} for {rows.num_rows} rows, "
                f"expected one for each of {len(self.labels.values)} classes"
            )
        if self.label_follows:
            labels = self.labels.most_probable(
                probabilities, lambda near: self.native("predict", rows.take(pa.array(near)))
            )
        else:
            labels = self.labels.named(self.call("predict", rows))
        return [labels, *map(pa.array, probabilities.T)]


class LabelModel(SklearnModel):
    """A classifier without probabilities: its label alone."""

    def __init__(self, model: Any, feed: Feed, outputs: pa.Schema) -> None:
        super().__init__(model, feed, outputs)
        self.labels = Labels(model.classes_)

    def columns(self, rows: pa.RecordBatch) -> list[pa.Array]:
        return [self.labels.named(self.call("predict", rows))]


class LabelsModel(SklearnModel):
    """A classifier of several labels a row: the labels, then their probabilities if it has any."""

    def __init__(self, model: Any, feed: Feed, outputs: pa.Schema, options: Mapping[str, Any]) -> None:
        super().__init__(model, feed, outputs)
        self.count = int(options[COUNT])
        self.probabilities = str(options[PROBABILITIES])

    def columns(self, rows: pa.RecordBatch) -> list[pa.Array]:
        labels = several_a_row(self.call("predict", rows), self.count)
        columns = [typed(each, f.type, f.name) for each, f in zip(labels, self.outputs, strict=False)]
        if self.probabilities == NONE:
            return columns
        return columns + probability_columns(self.call("predict_proba", rows), self.probabilities, self.count)


class ValueModel(SklearnModel):
    """What predict() returns, unchanged: a regressor's values, a clusterer's label, a DataFrame's columns."""

    def columns(self, rows: pa.RecordBatch) -> list[pa.Array]:
        return value_columns(self.call("predict", rows), self.outputs)


class DetectorModel(SklearnModel):
    """An outlier detector: its label, -1 or 1, and how normal the row is."""

    def columns(self, rows: pa.RecordBatch) -> list[pa.Array]:
        columns = [typed(one_a_row(self.call("predict", rows)), pa.int64(), LABEL)]
        score = score_of(self.model)
        if score is None:
            return columns
        return [*columns, typed(one_a_row(self.call(score, rows)), pa.float64(), "score")]


class EmbeddingModel(SklearnModel):
    """A transformer: the vector of each row."""

    def columns(self, rows: pa.RecordBatch) -> list[pa.Array]:
        field = self.outputs.field(0)
        found = dense(self.call("transform", rows))
        if found.ndim != 2:
            raise OutputError(f"the model returned vectors of the shape {list(found.shape)}, expected [rows, values]")
        flat = typed(np.ascontiguousarray(found, dtype=found.dtype).ravel(), field.type.value_type, field.name)
        return [pa.FixedSizeListArray.from_arrays(flat, found.shape[1]).cast(field.type)]


def writable(x: Any) -> Any:
    """The input, or a copy if it is an array over Arrow's memory: predict() may write to its input."""
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
    """Raises StoreError for a model that is not fitted. Outside scikit-learn only `classes_` can show that."""
    try:
        check_is_fitted(model)
    except NotFittedError:  # also an AttributeError, so it comes first
        is_own = type(model).__module__.startswith("sklearn.")
        if is_own or (estimator_kind(model) == "classifier" and not hasattr(model, "classes_")):
            raise StoreError(
                f"{file} holds a {type(model).__name__} that is not fitted: call fit() before it is written"
            ) from None
    except (TypeError, AttributeError):  # no scikit-learn estimator: not checked
        return


def _require_text_inputs(model: Any, wanted: InputPlan, file: str) -> None:
    """Raises StoreError if a column is text by --inputs, but the model converts it to a number."""
    if not wanted.declared_text:
        return
    try:
        with _without_name_warnings(), contained():
            model.predict(make_feed(wanted.kind, model, wanted.inputs)(wanted.row_of_words))
    except Exception as error:  # it may refuse an unknown word in any way
        if _NOT_A_NUMBER in text(error):
            raise StoreError(
                f"{file} takes numbers, but --inputs says that {', '.join(wanted.declared_text)} is text: leave the "
                "type out, and cast the column in the query"
            ) from error


def _preview(model: Any, wanted: InputPlan) -> Preview:
    """The model's methods over the invented row, repeated: for one row the shape would not show which axis is rows."""
    rows = wanted.trial.take(pa.array([0] * _PREVIEW_ROWS)) if wanted.trial.num_rows == 1 else wanted.trial
    feed = make_feed(wanted.kind, model, wanted.inputs)

    def call(method: str) -> Any:
        with _without_name_warnings(), contained():
            return getattr(model, method)(writable(feed(rows)))

    return Preview(call, rows.num_rows)


@contextmanager
def _without_name_warnings() -> Iterator[None]:
    """Ignores warnings on feature names: a matrix has none, and its columns are in the order of training."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X (does not have valid feature names|has feature names, but)")
        yield
