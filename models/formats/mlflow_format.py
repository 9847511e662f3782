"""MLflow model folders, scored through pyfunc: they run the code they hold, so they are taken only where allowed."""

import importlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from scorebeat.core.errors import ModelError, StoreError
from scorebeat.models.artifact import Artifact
from scorebeat.models.columns import output_schema
from scorebeat.models.containment import contained
from scorebeat.models.contract import Described, Given, Model, Signature
from scorebeat.models.formats.mlflow_answers import Answers, columns, seen
from scorebeat.models.formats.mlflow_signature import fed, inputs_of, outputs_of
from scorebeat.models.matrix import explain
from scorebeat.models.outputs import assembled
from scorebeat.models.refusals import said
from scorebeat.models.registry import missing
from scorebeat.models.samples import sample

NAME = "mlflow"
DEVICES = ("cpu",)
READS = frozenset({"inputs", "outputs", "code"})
_FOLDER = "model"
_PARTS = "parts"
"""The option that keeps the names under which the model answers its outputs."""
_TRIAL_ROWS = 3
_code: set[str] = set()
"""Folders of code that MLflow put into sys.path for the models of this process."""


def take(source: str, draft: Path, given: Given) -> str:
    """Copy the folder. Raises StoreError unless code was allowed; no file is opened before that."""
    _require_permission(source, given)
    try:
        shutil.copytree(source, draft / _FOLDER, ignore=shutil.ignore_patterns("__pycache__"))
    except (OSError, shutil.Error) as error:
        raise StoreError(f"{source} cannot be copied: {error}") from error
    return _FOLDER


def inspect(path: Path, given: Given) -> Described:
    """What the model wants and gives, by its MLmodel; what that does not say is seen by a trial on three rows.

    Raises StoreError for a model that cannot be used or may not be opened, ModelError for a damaged folder.
    """
    _require_permission(path.name, given)
    model = _open(path)
    signature = model.metadata.signature
    inputs = inputs_of(signature, given.inputs, path.name)
    found = outputs_of(signature) or _trial(model, Signature(inputs, pa.schema([])), path.name)
    described = Signature(inputs, output_schema(found.fields, given.outputs, path.name))
    return Described(described, {_PARTS: [*found.parts]} if found.parts else {})


def load(artifact: Artifact, device: str) -> Model:
    """The model, ready to score: that it may run code was said when it was added, and its digest is the same.

    Raises ModelError when the folder is damaged, or needs what is not installed here.
    """
    del device
    return PyfuncModel(_open(artifact.path), tuple(artifact.options.get(_PARTS, ())), artifact.signature.outputs)


class PyfuncModel:
    """A pyfunc model over a DataFrame or arrays. NULL reaches it as NaN; MLflow refuses it where a type has none."""

    def __init__(self, model: Any, parts: tuple[str, ...], outputs: pa.Schema) -> None:
        self.model = model
        self.parts = parts
        self.outputs = outputs

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        if not rows.num_rows:  # not every model takes a table without rows
            return pa.RecordBatch.from_pylist([], schema=self.outputs)
        found = columns(_answer(self.model, rows), self.parts, self.outputs)
        return assembled(found, self.outputs.names)


def _require_permission(source: str, given: Given) -> None:
    if NAME not in given.code:
        raise StoreError(
            f"{Path(source).name} is an MLflow model, which runs code of its writer's choice when it is opened; it "
            "was not opened. Add the model itself if it is one of scikit-learn, XGBoost, LightGBM or ONNX, as a file "
            "that holds no code. Or add the folder with --allow-code mlflow: then whoever could write it can do on "
            "every worker what the worker can"
        )


def _open(path: Path) -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # a worker reports to nobody; read when it is imported
    sys.dont_write_bytecode = True  # compiled code beside the folder's modules would change its digest
    try:
        pyfunc = importlib.import_module("mlflow.pyfunc")
        with _own_modules(), contained():
            return pyfunc.load_model(str(path.resolve()), suppress_warnings=True)
    except ModuleNotFoundError as error:
        raise missing(error, f"the MLflow model {path.name}") from error
    except Exception as error:  # what a model does when it is opened may fail in any way
        raise ModelError(f"{path.name} cannot be loaded by MLflow: {said(error)}") from error


@contextmanager
def _own_modules() -> Iterator[None]:
    """Forgets modules of folders that were opened before: they would be taken for this one's of the same name."""
    sys.path[:] = [path for path in sys.path if path not in _code]
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is not None and any(Path(file).is_relative_to(path) for path in _code):
            del sys.modules[name]
    before = set(sys.path)
    try:
        yield
    finally:
        _code.update(path for path in sys.path if path not in before)


def _answer(model: Any, rows: pa.RecordBatch) -> Any:
    refused = importlib.import_module("mlflow.exceptions").MlflowException
    try:
        return model.predict(fed(model.metadata.signature, rows))
    except (TypeError, ValueError, refused) as error:
        raise explain(rows, error) from error


def _trial(model: Any, signature: Signature, file: str) -> Answers:
    try:
        with contained():
            return seen(_answer(model, sample(signature, _TRIAL_ROWS)))
    except ModelError:
        raise
    except Exception as error:  # the model's own code
        raise ModelError(
            f"{file} does not say its outputs in MLmodel, and {_TRIAL_ROWS} invented rows do not show them: "
            f"{said(error)}. Save it with a signature that has outputs"
        ) from error
