"""scikit-learn models in .skops files: what they want and give, and how they score Arrow columns."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import skops.io
from sklearn.base import is_classifier, is_regressor
from sklearn.compose import ColumnTransformer

from core.errors import ModelError, StoreError
from models.artifact import Artifact
from models.columns import LABEL, output_schema
from models.contract import Described, Given, Input, Model, Signature
from models.given import named_inputs
from models.labels import Labels, class_columns, settles_by_probability
from models.matrix import Matrix, explain, matrix
from models.registry import copy_file
from models.trusted import TRUSTED

NAME = "skops"
DEVICES = ("cpu",)
take = copy_file


def inspect(path: Path, given: Given) -> Described:
    """What the model in this file wants and gives.

    Inputs are float64, named as in training, else as given, else one array called `features`.
    Raises StoreError for a model that cannot be used, ModelError for a file that cannot be read.
    """
    model = _open(path)
    if not hasattr(model, "predict"):
        raise StoreError(f"{path.name} holds a {type(model).__name__}, which has no predict() for new rows")
    if _selects_by_name(model):
        raise StoreError(
            f"{path.name} has a ColumnTransformer that picks columns by name, as from a DataFrame; it gets a "
            "matrix of numbers here. Pick columns by position in training, or export the model to ONNX"
        )
    wanted = _inputs(model, given.inputs, path.name)
    return Described(Signature(wanted, output_schema(_outputs(model), given.outputs, path.name)))


def load(artifact: Artifact, device: str) -> Model:
    """The model, ready to score. Raises ModelError when the file is damaged or not trusted."""
    del device
    model, outputs = _open(artifact.path), artifact.signature.outputs
    if _is_probabilistic(model):
        return ProbabilityModel(model, outputs)
    return LabelModel(model, outputs) if is_classifier(model) else ValueModel(model, outputs)


@contextmanager
def _nameless() -> Iterator[None]:
    """A matrix without names may pass: its columns are in the order of training."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X does not have valid feature names")
        yield


class SklearnModel:
    """A scikit-learn model over one float64 matrix. NULL reaches it as NaN: it alone knows what it takes.

    (The tag `allow_nan` does not know: it is False for a pipeline that begins with an imputer.)
    """

    def __init__(self, model: Any, outputs: pa.Schema) -> None:
        self.model = model
        self.outputs = outputs

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        if not rows.num_rows:  # scikit-learn refuses a matrix without rows
            return pa.RecordBatch.from_pylist([], schema=self.outputs)
        x = matrix(rows, np.float64, "F")
        x.flags.writeable = False  # a scaler with copy=False would scale in place, and again for the label
        try:
            with _nameless():
                columns = self.columns(x)
        except ValueError as error:
            raise explain(rows, error) from error
        return pa.RecordBatch.from_arrays(columns, names=self.outputs.names)

    def columns(self, x: Matrix) -> list[pa.Array]:
        """The output columns for a matrix of [rows, values]."""
        raise NotImplementedError


class ProbabilityModel(SklearnModel):
    """A classifier with probabilities: its label, then one column a class in the order of `classes_`."""

    def __init__(self, model: Any, outputs: pa.Schema) -> None:
        super().__init__(model, outputs)
        self.labels = Labels(model.classes_)
        self.settles = settles_by_probability(model)

    def columns(self, x: Matrix) -> list[pa.Array]:
        probabilities = np.asfortranarray(self.model.predict_proba(x), dtype=np.float64)
        if self.settles:
            labels = self.labels.likeliest(probabilities, lambda near: self.model.predict(x[near]))
        else:
            labels = self.labels.named(self.model.predict(x))
        return [labels, *map(pa.array, probabilities.T)]


class LabelModel(SklearnModel):
    """A classifier without probabilities: its label alone."""

    def __init__(self, model: Any, outputs: pa.Schema) -> None:
        super().__init__(model, outputs)
        self.labels = Labels(model.classes_)

    def columns(self, x: Matrix) -> list[pa.Array]:
        return [self.labels.named(self.model.predict(x))]


class ValueModel(SklearnModel):
    """A regressor, with one column a target, or a clusterer or outlier detector with its label."""

    def columns(self, x: Matrix) -> list[pa.Array]:
        predicted = np.asarray(self.model.predict(x))
        values = np.asfortranarray(predicted.reshape(len(x), -1))
        return [pa.array(v, t) for v, t in zip(values.T, self.outputs.types, strict=True)]


def _open(path: Path) -> Any:
    try:
        untrusted = set(skops.io.get_untrusted_types(file=path))
        if refused := sorted(untrusted - TRUSTED):
            raise ModelError(
                f"{path.name} holds what is not trusted, because it could run code: {', '.join(refused)}. "
                "Keep to scikit-learn's own estimators and functions, or export the model to ONNX"
            )
        return skops.io.load(path, trusted=sorted(untrusted))
    except ModelError:
        raise
    except Exception as error:  # a damaged file may fail in any of the libraries that read it
        raise ModelError(
            f"{path.name} cannot be read as a .skops file: {type(error).__name__}: {error}. Write it again "
            "with skops.io.dump, under the scikit-learn version that is installed here"
        ) from error


def _selects_by_name(model: Any) -> bool:
    if isinstance(model, ColumnTransformer):
        picked = [np.atleast_1d(columns) for _, _, columns in model.transformers_]
        return any(isinstance(column, str) for columns in picked for column in columns.tolist())
    inner = [step for _, step in getattr(model, "steps", ())]
    return any(map(_selects_by_name, [*inner, *filter(None, [getattr(model, "best_estimator_", None)])]))


def _is_probabilistic(model: Any) -> bool:
    return is_classifier(model) and hasattr(model, "predict_proba")


def _inputs(model: Any, given: Sequence[str], file: str) -> tuple[Input, ...]:
    count = int(getattr(model, "n_features_in_", 0) or len(given))
    if not count:
        raise StoreError(f"{file} does not say how many inputs it wants: name them with --inputs a,b,c")
    names = list(given) or [str(name) for name in getattr(model, "feature_names_in_", ())]
    if not names:
        return (Input("features", pa.float64(), count),)
    if len(names) != count:
        raise StoreError(f"{file} wants {count} inputs, but --inputs names {len(names)}: {', '.join(names)}")
    return named_inputs(names, pa.float64()) if given else tuple(Input(name, pa.float64()) for name in names)


def _outputs(model: Any) -> list[tuple[str, pa.DataType]]:
    if is_classifier(model):
        label = (LABEL, Labels(model.classes_).type)
        proba = hasattr(model, "predict_proba")
        return [label, *((name, pa.float64()) for name in class_columns(model.classes_) if proba)]
    if is_regressor(model):
        return [(name, pa.float64()) for name in _targets(model)]
    return [(LABEL, pa.int64())]


def _targets(model: Any) -> list[str]:
    with _nameless():
        count = int(np.asarray(model.predict(np.zeros((1, model.n_features_in_)))).size)
    return ["value"] if count == 1 else [f"value_{n}" for n in range(count)]
