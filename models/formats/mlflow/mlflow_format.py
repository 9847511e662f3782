"""MLflow model folders, scored through pyfunc: they run the code that they hold, so they are added only if allowed."""

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
from scorebeat.models.contract import AddOptions, Described, Input, Model, Signature
from scorebeat.models.copying import copy_folder
from scorebeat.models.formats.mlflow.outputs import Outputs, arrays_of, columns, outputs_seen_in
from scorebeat.models.formats.mlflow.signature import inputs_of, model_input, outputs_of
from scorebeat.models.formats.registry import missing_module_error
from scorebeat.models.formats.shared import written_by
from scorebeat.models.formats.shared.null_blame import explain
from scorebeat.models.formats.shared.refusals import error_summary
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
"""The format's option with the names under which the model returns its outputs."""
_TRIAL_ROWS = 3
_code_folders: set[str] = set()
"""Folders of code that MLflow added to sys.path for the models of this process."""


def take(source: str, draft: Path, add_options: AddOptions) -> str:
    """Copy the folder. Raises StoreError unless code was allowed; no file is opened before that."""
    _require_permission(source, add_options)
    try:
        copy_folder(Path(source), draft / _FOLDER, shutil.ignore_patterns("__pycache__"))
    except (OSError, shutil.Error) as error:
        raise StoreError(f"{source} cannot be copied: {error}") from error
    return _FOLDER


def inspect(path: Path, add_options: AddOptions) -> Described:
    """The inputs and outputs of the model, by its MLmodel; outputs that it lacks are found by a trial on three rows.

    Raises StoreError for a model that cannot be used or may not be opened, ModelError for a damaged folder.
    """
    _require_permission(path.name, add_options)
    model = _open(path)
    signature = model.metadata.signature
    wanted = inputs_of(signature, add_options.inputs, path.name)
    found = outputs_of(signature) or _trial(model, Signature(wanted.inputs, pa.schema([])), add_options, path.name)
    notes = (*written_by.notes(written_by.of_mlflow(path)), *wanted.notes)
    described = Signature(wanted.inputs, output_schema(found.fields, add_options.outputs, path.name))
    return Described(described, {_PARTS: [*found.parts]} if found.parts else {}, notes)


def load(artifact: Artifact, device: str) -> Model:
    """The model, ready to score. A person allowed its code when it was added, and its digest is still the same.

    Raises ModelError if the folder is damaged, or needs what is not installed here.
    """
    del device
    return PyfuncModel(_open(artifact.path), tuple(artifact.options.get(_PARTS, ())), artifact.signature)


def known_values(model: Model, signature: Signature) -> Known:
    """As `Format.known_values`: those of MLflow's input example, if the model has one."""
    try:
        example = cast(PyfuncModel, model).model.input_example
        return {i.name: [example[i.name].dropna().tolist()] for i in signature.inputs}
    except Exception:  # noqa: BLE001 -- it may have no example, or one in another form
        return NOTHING_KNOWN


def own_predict(artifact: Artifact, own: OwnRows) -> Sequence[Any] | None:
    """As `Format.own_predict`: pyfunc's own predict, over a DataFrame, or over arrays if the signature has tensors."""
    model = _open(artifact.path)
    schema = getattr(model.metadata.signature, "inputs", None)
    if schema is None or not schema.is_tensor_spec():
        data: Any = own.table[[i.name for i in own.signature.inputs]]
    elif len(schema.inputs) == 1:
        data = _tensor(schema.inputs[0], own.matrix(schema.inputs[0].type))
    else:
        data = {spec.name: _tensor(spec, own.column(spec.name)) for spec in schema.inputs}
    return arrays_of(model.predict(data), tuple(artifact.options.get(_PARTS, ())))


def _tensor(spec: Any, values: Any) -> Any:
    return values.astype(spec.type).reshape(len(values), *spec.shape[1:])


class PyfuncModel:
    """A pyfunc model over a DataFrame or arrays. NULL reaches it as NaN; MLflow refuses NULL for a type without NaN."""

    def __init__(self, model: Any, parts: tuple[str, ...], signature: Signature) -> None:
        self.model = model
        self.parts = parts
        self.inputs = signature.inputs
        self.outputs = signature.outputs

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        if not rows.num_rows:  # not every model takes a table without rows
            return pa.RecordBatch.from_pylist([], schema=self.outputs)

        def score(part: pa.RecordBatch) -> Sequence[pa.Array]:
            return columns(_predict(self.model, part, self.inputs), self.parts, self.outputs)

        return assembled(by_nulls(rows, changed_by_null(self.inputs), score), self.outputs.names)


def _require_permission(source: str, add_options: AddOptions) -> None:
    if NAME not in add_options.code:
        raise StoreError(
            f"{Path(source).name} is an MLflow model, which runs code of its writer's choice when it is opened; it "
            "was not opened. Add the model itself if it is one of scikit-learn, XGBoost, LightGBM or ONNX, as a file "
            "that holds no code. Or add the folder with --allow-code mlflow: then whoever could write it can do on "
            "every worker what the worker can"
        )


def _open(path: Path) -> Any:
    os.environ.setdefault(
        "MLFLOW_DISABLE_TELEMETRY", "true"
    )  # a worker sends no telemetry; MLflow reads this at its import
    sys.dont_write_bytecode = True  # compiled code beside the folder's modules would change its digest
    try:
        pyfunc = importlib.import_module("mlflow.pyfunc")
        with _own_modules(), contained():
            return pyfunc.load_model(str(path.resolve()), suppress_warnings=True)
    except ModuleNotFoundError as error:
        raise missing_module_error(error, f"the MLflow model {path.name}") from error
    except Exception as error:  # code that a model runs when it is opened may fail in any way
        message = f"{path.name} cannot be loaded by MLflow: {error_summary(error)}"
        raise ModelError(written_by.prepend_versions(written_by.of_mlflow(path), message)) from error


@contextmanager
def _own_modules() -> Iterator[None]:
    """Forgets modules of folders that were opened before: Python would use them for this model's of the same name."""
    sys.path[:] = [path for path in sys.path if path not in _code_folders]
    for name, module in sys.modules.copy().items():  # a thread of MLflow imports meanwhile
        file = getattr(module, "__file__", None)
        if file is not None and any(Path(file).is_relative_to(path) for path in _code_folders):
            del sys.modules[name]
    before = set(sys.path)
    try:
        yield
    finally:
        _code_folders.update(path for path in sys.path if path not in before)


def _predict(model: Any, rows: pa.RecordBatch, inputs: Sequence[Input]) -> Any:
    mlflow_error = importlib.import_module("mlflow.exceptions").MlflowException
    try:
        return model.predict(model_input(model.metadata.signature, rows, inputs))
    except (TypeError, ValueError, mlflow_error) as error:
        raise explain(
            rows, error, lambda other: model.predict(model_input(model.metadata.signature, other, inputs))
        ) from error


def _trial(model: Any, signature: Signature, add_options: AddOptions, file: str) -> Outputs:
    try:
        with contained():
            return outputs_seen_in(_predict(model, trial_rows(signature, add_options, _TRIAL_ROWS), signature.inputs))
    except ModelError:
        raise
    except Exception as error:  # the model's own code
        rows = "invented rows" if add_options.sample is None else "rows of the sample"
        raise ModelError(
            f"{file} has no outputs in its MLmodel, and {_TRIAL_ROWS} {rows} do not show them: "
            f"{error_summary(error)}. Save it with a signature that has outputs, or give rows of yours with "
            "--sample FILE"
        ) from error
