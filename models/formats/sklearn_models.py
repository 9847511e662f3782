"""A fitted scikit-learn model, however its file was written: what it gives, and how it scores Arrow columns."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.base import is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from scorebeat.core.errors import StoreError
from scorebeat.models.artifact import Artifact
from scorebeat.models.columns import LABEL, output_schema
from scorebeat.models.contract import Described, Given, Model, Signature
from scorebeat.models.formats.labels import Labels, class_columns, settles_by_probability
from scorebeat.models.formats.sklearn_inputs import MATRIX, Fed, Feed, fed, feed
from scorebeat.models.formats.sklearn_values import known_values
from scorebeat.models.nulls import explain
from scorebeat.models.samples import trial_rows

_FED = "fed"
"""The option that keeps what the model's predict() takes."""
_NO_WORD = "could not convert string to float"
"""What NumPy says of a word in a matrix of numbers."""


def describe(model: Any, given: Given, file: str) -> Described:
    """What the model wants and gives. Raises StoreError for one that cannot be used."""
    if not hasattr(model, "predict") or not hasattr(model, "__sklearn_tags__"):
        raise StoreError(
            f"{file} holds a {type(model).__name__}, which has no predict() for new rows as scikit-learn's models do"
        )
    _require_fitted(model, file)
    wanted = fed(model, given.inputs, file)
    if given.sample is not None:
        wanted = replace(wanted, trial=trial_rows(Signature(wanted.inputs, pa.schema([])), given, 1))
    _require_words(model, wanted, file)
    fields = _outputs(model, wanted, len(given.outputs), file)
    signature = Signature(wanted.inputs, output_schema(fields, given.outputs, file))
    return Described(signature, {_FED: wanted.kind}, wanted.notes)


def ready(model: Any, artifact: Artifact) -> Model:
    """The model as `describe` found it, ready to score. Raises ModelError where a package that it needs is absent."""
    signature = artifact.signature
    how = feed(artifact.options.get(_FED, MATRIX), model, signature.inputs)
    if is_classifier(model):
        made = ProbabilityModel if hasattr(model, "predict_proba") else LabelModel
        return made(model, how, signature.outputs)
    return ValueModel(model, how, signature.outputs)


class SklearnModel:
    """A scikit-learn model. NULL reaches it as NaN, or as it was in training: it alone knows what it takes.

    (The tag `allow_nan` does not know: it is False for a pipeline that begins with an imputer.)
    """

    def __init__(self, model: Any, feed: Feed, outputs: pa.Schema) -> None:
        self.model = model
        self.feed = feed
        self.outputs = outputs

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        if not rows.num_rows:  # scikit-learn refuses a matrix without rows
            return pa.RecordBatch.from_pylist([], schema=self.outputs)
        x = self.feed(rows)
        try:
            with _nameless():
                columns = self.columns(x)
        except (TypeError, ValueError) as error:
            raise explain(rows, error, self._score, partial(known_values, self.model)) from error
        return pa.RecordBatch.from_arrays(columns, names=self.outputs.names)

    def _score(self, rows: pa.RecordBatch) -> list[pa.Array]:
        with _nameless():
            return self.columns(self.feed(rows))

    def columns(self, x: Any) -> list[pa.Array]:
        """The output columns for what the model is fed, `len(x)` long."""
        raise NotImplementedError


class ProbabilityModel(SklearnModel):
    """A classifier with probabilities: its label, then one column a class in the order of `classes_`."""

    def __init__(self, model: Any, feed: Feed, outputs: pa.Schema) -> None:
        super().__init__(model, feed, outputs)
        self.labels = Labels(model.classes_)
        self.settles = settles_by_probability(model)

    def columns(self, x: Any) -> list[pa.Array]:
        probabilities = np.asfortranarray(self.model.predict_proba(x), dtype=np.float64)
        if self.settles:
            labels = self.labels.likeliest(probabilities, lambda near: self.model.predict(_rows(x, near)))
        else:
            labels = self.labels.named(self.model.predict(x))
        return [labels, *map(pa.array, probabilities.T)]


class LabelModel(SklearnModel):
    """A classifier without probabilities: its label alone."""

    def __init__(self, model: Any, feed: Feed, outputs: pa.Schema) -> None:
        super().__init__(model, feed, outputs)
        self.labels = Labels(model.classes_)

    def columns(self, x: Any) -> list[pa.Array]:
        return [self.labels.named(self.model.predict(x))]


class ValueModel(SklearnModel):
    """A regressor, with one column a target, or a clusterer or outlier detector with its label."""

    def columns(self, x: Any) -> list[pa.Array]:
        predicted = np.asarray(self.model.predict(x))
        values = np.asfortranarray(predicted.reshape(len(x), -1))
        return [pa.array(v, t) for v, t in zip(values.T, self.outputs.types, strict=True)]


def _require_fitted(model: Any, file: str) -> None:
    """Raises StoreError for a model that was not fitted. Others than scikit-learn's keep no rule but `classes_`."""
    try:
        check_is_fitted(model)
    except NotFittedError:
        is_own = type(model).__module__.startswith("sklearn.")
        if is_own or (is_classifier(model) and not hasattr(model, "classes_")):
            raise StoreError(
                f"{file} holds a {type(model).__name__} that is not fitted: call fit() before it is written"
            ) from None


def _require_words(model: Any, wanted: Fed, file: str) -> None:
    """Raises StoreError where --inputs says that a column is text, and the model takes it for a number."""
    if not wanted.said_text:
        return
    try:
        with _nameless():
            model.predict(feed(wanted.kind, model, wanted.inputs)(wanted.words))
    except Exception as error:  # it may refuse a word that it never saw, in any way
        if _NO_WORD in str(error):
            raise StoreError(
                f"{file} takes numbers, but --inputs says that {', '.join(wanted.said_text)} is text: leave the type "
                "out, and cast the column in the query"
            ) from error


@contextmanager
def _nameless() -> Iterator[None]:
    """A matrix without names may pass: its columns are in the order of training. So may names after none."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X (does not have valid feature names|has feature names, but)")
        yield


def _rows(x: Any, which: Any) -> Any:
    return x.iloc[which] if hasattr(x, "iloc") else x[which]


def _outputs(model: Any, wanted: Fed, told: int, file: str) -> list[tuple[str, pa.DataType]]:
    if is_classifier(model):
        label = (LABEL, Labels(model.classes_).type)
        proba = hasattr(model, "predict_proba")
        return [label, *((name, pa.float64()) for name in class_columns(model.classes_) if proba)]
    if is_regressor(model):
        count = _targets(model, wanted, told, file)
        return [(name, pa.float64()) for name in (["value"] if count == 1 else [f"value_{n}" for n in range(count)])]
    return [(LABEL, pa.int64())]


def _targets(model: Any, wanted: Fed, told: int, file: str) -> int:
    """How many values a regressor gives: seen by a trial on one row, else as many as outputs were named."""
    try:
        with _nameless():
            return int(np.asarray(model.predict(feed(wanted.kind, model, wanted.inputs)(wanted.trial))).size)
    except (TypeError, ValueError) as error:
        if told:
            return told
        raise StoreError(
            f"{file}: an invented row does not tell how many values the model gives: {error}. Name them with "
            "--outputs, or give rows of yours with --sample FILE"
        ) from error
