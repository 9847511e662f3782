"""ONNX models in ONNX Runtime on one CPU thread: what they want and give, and how they score Arrow columns."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pyarrow as pa

from scorebeat.core.errors import ModelError, StoreError, one_line
from scorebeat.models.artifact import Artifact
from scorebeat.models.columns import LABEL, output_schema
from scorebeat.models.contract import Described, Given, Input, Model, Signature
from scorebeat.models.formats import written_by
from scorebeat.models.formats.tensors import arrays, fields
from scorebeat.models.given import Matched, match_fixed
from scorebeat.models.matrix import Matrix, matrix, no_nulls
from scorebeat.models.own_rows import OwnRows
from scorebeat.models.refusals import said
from scorebeat.models.registry import copy_file
from scorebeat.models.samples import NOTHING_KNOWN, Known, trial_rows

NAME = "onnx"
DEVICES = ("cpu",)
READS = frozenset({"inputs", "outputs"})
take = copy_file
CLASSES = "classes"
"""Key of the file's metadata that names the probabilities' columns, as a JSON list."""
_TRIAL_ROWS = 2


@dataclass(frozen=True)
class Tensor:
    """How a tensor's element type is called in ONNX, Arrow and NumPy."""

    arrow: pa.DataType
    numpy: type[Any]


_TENSORS = {
    "tensor(float)": Tensor(pa.float32(), np.float32),
    "tensor(double)": Tensor(pa.float64(), np.float64),
    "tensor(int64)": Tensor(pa.int64(), np.int64),
    "tensor(int32)": Tensor(pa.int32(), np.int32),
    "tensor(string)": Tensor(pa.string(), np.object_),
    "tensor(bool)": Tensor(pa.bool_(), np.bool_),
}


def inspect(path: Path, given: Given) -> Described:
    """What the model in this file wants and gives; how wide its outputs are is seen by a trial on two rows.

    The inputs given name the values of a lone tensor of [rows, values].
    Raises StoreError for a model that cannot be used, ModelError for a file that cannot be read.
    """
    session = _session(path)
    matched = _inputs(session, given.inputs, path.name)
    wanted = matched.inputs
    found = _trial(session, Signature(wanted, pa.schema([])), given, path.name)
    columns = [
        column
        for put, values in zip(session.get_outputs(), found, strict=True)
        for column in _fields(put, values, _classes(session), path.name)
    ]
    return Described(Signature(wanted, output_schema(columns, given.outputs, path.name)), notes=matched.notes)


def load(artifact: Artifact, device: str) -> Model:
    """The model, ready to score. Raises ModelError when the file is damaged."""
    del device
    return OnnxModel(_session(artifact.path), artifact.signature.outputs)


def known_values(model: Model, signature: Signature) -> Known:
    """As `Format.known_values`: ONNX Runtime shows no constants of a graph."""
    del model, signature
    return NOTHING_KNOWN


def own_predict(artifact: Artifact, own: OwnRows) -> Sequence[Any] | None:
    """As `Format.own_predict`: a session's own run, over arrays of NumPy."""
    session = _session(artifact.path)
    puts, inputs = session.get_inputs(), own.signature.inputs
    if len(puts) == 1:
        whole = own.column(inputs[0].name) if len(inputs) == 1 else own.matrix(np.object_)
        fed = {puts[0].name: _shaped(puts[0], whole)}
    else:
        fed = {put.name: _shaped(put, own.column(i.name)) for put, i in zip(puts, inputs, strict=True)}
    returned = session.run(None, fed)
    # skl2onnx's ZipMap returns a dict of probabilities for each row
    return [np.array([[*row.values()] for row in each]) if isinstance(each, list) else each for each in returned]


def _shaped(put: Any, values: Matrix) -> Matrix:
    tensor: Matrix = values.astype(_TENSORS[put.type].numpy)
    return tensor.reshape(len(tensor), -1) if len(put.shape) == 2 else tensor.reshape(len(tensor))


class OnnxModel:
    """A session over named tensors. A NULL is refused: a tensor cannot say that a value is unknown."""

    def __init__(self, session: Any, outputs: pa.Schema) -> None:
        self.session = session
        self.outputs = outputs
        self.puts = session.get_inputs()

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        if not rows.num_rows:  # some operators refuse a tensor without rows
            return pa.RecordBatch.from_pylist([], schema=self.outputs)
        columns = [column for values in self.run(rows) for column in _arrays(values)]
        return pa.RecordBatch.from_arrays(columns, names=self.outputs.names)

    def run(self, rows: pa.RecordBatch) -> list[Any]:
        """The session's outputs for the model's inputs."""
        no_nulls(rows)
        outputs: list[Any] = self.session.run(None, self._feed(rows))
        return outputs

    def _feed(self, rows: pa.RecordBatch) -> dict[str, Matrix]:
        if len(self.puts) == 1:
            return {self.puts[0].name: _tensor(self.puts[0], rows)}
        return {put.name: _tensor(put, rows.select([at])) for at, put in enumerate(self.puts)}


def _session(path: Path) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a worker process has one core
    options.log_severity_level = 4  # what fails is raised as well
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common class of their own
        reason = one_line(error).removesuffix(".")
        producer = written_by.of_onnx(path)
        writer = f"written by {producer}: " if producer else ""
        raise ModelError(
            f"{writer}{path.name} cannot be loaded by ONNX Runtime {ort.__version__}: {reason}. Export it with an "
            "older opset, or install a newer onnxruntime here and on every worker; operators of your own are not "
            "supported"
        ) from error


def _trial(session: Any, signature: Signature, given: Given, file: str) -> list[Any]:
    """What the session returns for two rows. Raises StoreError where invented ones do not do."""
    model, rows = OnnxModel(session, pa.schema([])), trial_rows(signature, given, _TRIAL_ROWS)
    try:
        return model.run(rows)
    except Exception as error:  # ONNX Runtime's exceptions have no common class of their own
        if given.sample is not None:
            raise
        raise StoreError(
            f"{file}: {_TRIAL_ROWS} invented rows do not show what it returns: {said(error)}. Give rows of yours with "
            "--sample FILE or --sample-job JOB"
        ) from error


def _inputs(session: Any, given: Sequence[str], file: str) -> Matched:
    puts = session.get_inputs()
    for put in puts:
        _usable(put, file)
    if given and len(puts) == 1:
        return Matched(_named(puts[0], given, file))
    return match_fixed(given, [_input(put, file) for put in puts], file)


def _usable(put: Any, file: str) -> None:
    if put.type not in _TENSORS or len(put.shape) not in (1, 2):
        raise StoreError(
            f"{file}: input {put.name} is {put.type} {put.shape}, but an input must be [rows] or [rows, values] "
            f"of {', '.join(_TENSORS)}"
        )
    if isinstance(put.shape[0], int):
        raise StoreError(
            f"{file}: input {put.name} takes exactly {put.shape[0]} rows; export it with a dynamic first axis"
        )


def _named(put: Any, given: Sequence[str], file: str) -> tuple[Input, ...]:
    width = (*put.shape, 1)[1]
    if len(set(given)) != len(given) or (isinstance(width, int) and width != len(given)):
        raise StoreError(f"{file} wants {width} values a row, but --inputs names {', '.join(given)}")
    return tuple(Input(name, _TENSORS[put.type].arrow) for name in given)


def _input(put: Any, file: str) -> Input:
    width = (*put.shape, 1)[1]
    if not isinstance(width, int):
        raise StoreError(f"{file} does not say how many values {put.name} has: name them with --inputs a,b,c")
    return Input(put.name, _TENSORS[put.type].arrow, None if width == 1 else width)


def _tensor(put: Any, rows: pa.RecordBatch) -> Matrix:
    tensor = matrix(rows, _TENSORS[put.type].numpy, "C")
    return tensor if len(put.shape) == 2 else tensor[:, 0]


def _classes(session: Any) -> list[str]:
    try:
        names = json.loads(session.get_modelmeta().custom_metadata_map.get(CLASSES, "[]"))
    except ValueError:
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


def _fields(put: Any, values: Any, classes: list[str], file: str) -> list[tuple[str, pa.DataType]]:
    name = LABEL if put.name == "output_label" else put.name
    if put.type.startswith("seq(map("):
        return [(k if isinstance(k, str) else f"class_{k}", pa.float32()) for k in values[0]]
    shape = np.shape(values)
    if put.type not in _TENSORS or len(shape) not in (1, 2) or shape[0] != _TRIAL_ROWS:
        raise StoreError(
            f"{file}: output {put.name} is {put.type} of shape {list(shape)} for {_TRIAL_ROWS} rows, but an "
            f"output must be [rows] or [rows, values] of {', '.join(_TENSORS)}"
        )
    return fields(name, _TENSORS[put.type].arrow, (*shape, 1)[1], classes)


def _arrays(values: Any) -> list[pa.Array]:
    """The columns of one output: a tensor of [rows] or [rows, values], or skl2onnx's list of maps."""
    if isinstance(values, list):
        values = np.array([list(row.values()) for row in values], dtype=np.float32)
    return arrays(values)
