"""MLflow model folders, scored through pyfunc: they run the code they hold, so they are taken only where allowed."""

import importlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from scorebeat.core.errors import ModelError, StoreError
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import Described, Given, Input, Model, Signature
from scorebeat.models.copying import copy_folder
from scorebeat.models.formats.mlflow.outputs import Answers, columns, returned, seen
from scorebeat.models.formats.mlflow.signature import fed, inputs_of, outputs_of
from scorebeat.models.formats.registry import missing
from scorebeat.models.formats.shared import written_by
from scorebeat.models.formats.shared.null_blame import explain
from scorebeat.models.formats.shared.refusals import said
from scorebeat.models.inputs.own_rows import OwnRows
from scorebeat.models.inputs.samples import NOTHING_KNOWN, Known, trial_rows
from scorebeat.models.outputs.checks import assembled
from scorebeat.models.outputs.column_names import output_schema
from scorebeat.models.scoring.apart import by_nulls, changed_by_null
from scorebeat.models.scoring.containment import contained

NAME = "mlflow"
DEVICES = ("cpu",)
READS = frozenset({"inputs", "outputs", "code"})
_FOLDER = "model"
_PARTS = "parts"
"""The option that keeps the names under which the model returns its outputs."""
_TRIAL_ROWS = 3
_code: set[str] = set()
"""Folders of code that MLflow put into sys.path for the models of this process."""


def take(source: str, draft: Path, given: Given) -> str:
    """Copy the folder. Raises StoreError unless code was allowed; no file is opened before that."""
    _require_permission(source, given)
    try:
        copy_folder(Path(source), draft / _FOLDER, shutil.ignore_patterns("__pycache__"))
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
    wanted = inputs_of(signature, given.inputs, path.name)
    found = outputs_of(signature) or _trial(model, Signature(wanted.inputs, pa.schema([])), given, path.name)
    notes = (*written_by.notes(written_by.of_mlflow(path)), *wanted.notes)
    described = Signature(wanted.inputs, output_schema(found.fields, given.outputs, path.name))
    return Described(described, {_PARTS: [*found.parts]} if found.parts else {}, notes)


def load(artifact: Artifact, device: str) -> Model:
    """The model, ready to score: that it may run code was said when it was added, and its digest is the same.

    Raises ModelError when the folder is damaged, or needs what is not installed here.
    """
    del device
    return PyfuncModel(_open(artifact.path), tuple(artifact.options.get(_PARTS, ())), artifact.signature)


def known_values(model: Model, signature: Signature) -> Known:
    """As `Format.known_values`: those of the rows that MLflow keeps as an input example, where there are any."""
    try:
        example = cast(PyfuncModel, model).model.input_example
        return {i.name: [example[i.name].dropna().tolist()] for i in signature.inputs}
    except Exception:  # noqa: BLE001 -- it may lack an example, or have one of any other form
        return NOTHING_KNOWN


def own_predict(artifact: Artifact, own: OwnRows) -> Sequence[Any] | None:
    """As `Format.own_predict`: pyfunc's own predict, over a DataFrame or over arrays where the signature has them."""
    model = _open(artifact.path)
    schema = getattr(model.metadata.signature, "inputs", None)
    if schema is None or not schema.is_tensor_spec():
        data: Any = own.table[[i.name for i in own.signature.inputs]]
    elif len(schema.inputs) == 1:
        data = _tensor(schema.inputs[0], own.matrix(schema.inputs[0].type))
    else:
        data = {spec.name: _tensor(spec, own.column(spec.name)) for spec in schema.inputs}
    return returned(model.predict(data), tuple(artifact.options.get(_PARTS, ())))


def _tensor(spec: Any, values: Any) -> Any:
    return values.astype(spec.type).reshape(len(values), *spec.shape[1:])


class PyfuncModel:
    """A pyfunc model over a DataFrame or arrays. NULL reaches it as NaN; MLflow refuses it where a type has none."""

    def __init__(self, model: Any, parts: tuple[str, ...], signature: Signature) -> None:
        self.model = model
        self.parts = parts
        self.inputs = signature.inputs
        self.outputs = signature.outputs

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        if not rows.num_rows:  # not every model takes a table without rows
            return pa.RecordBatch.from_pylist([], schema=self.outputs)
        found = by_nulls(rows, changed_by_null(self.inputs), self._columns)
        return assembled(found, self.outputs.names)

    def _columns(self, rows: pa.RecordBatch) -> Sequence[pa.Array]:
        return columns(_answer(self.model, rows, self.inputs), self.parts, self.outputs)


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
        message = f"{path.name} cannot be loaded by MLflow: {said(error)}"
        raise ModelError(written_by.before(written_by.of_mlflow(path), message)) from error


@contextmanager
def _own_modules() -> Iterator[None]:
    """Forgets modules of folders that were opened before: they would be taken for this one's of the same name."""
    sys.path[:] = [path for path in sys.path if path not in _code]
    for name, module in sys.modules.copy().items():  # a thread of MLflow imports meanwhile
        file = getattr(module, "__file__", None)
        if file is not None and any(Path(file).is_relative_to(path) for path in _code):
            del sys.modules[name]
    before = set(sys.path)
    try:
        yield
    finally:
        _code.update(path for path in sys.path if path not in before)


def _answer(model: Any, rows: pa.RecordBatch, inputs: Sequence[Input]) -> Any:
    refused = importlib.import_module("mlflow.exceptions").MlflowException
    try:
        return model.predict(fed(model.metadata.signature, rows, inputs))
    except (TypeError, ValueError, refused) as error:
        raise explain(rows, error, lambda other: model.predict(fed(model.metadata.signature, other, inputs))) from error


def _trial(model: Any, signature: Signature, given: Given, file: str) -> Answers:
    try:
        with contained():
            return seen(_answer(model, trial_rows(signature, given, _TRIAL_ROWS), signature.inputs))
    except ModelError:
        raise
    except Exception as error:  # the model's own code
        rows = "invented rows" if given.sample is None else "rows of the sample"
        raise ModelError(
            f"{file} does not say its outputs in MLmodel, and {_TRIAL_ROWS} {rows} do not show them: {said(error)}. "
            "Save it with a signature that has outputs, or give rows of yours with --sample FILE"
        ) from error
