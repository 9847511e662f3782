"""ONNX models in ONNX Runtime on one CPU thread: their inputs and outputs, and scoring of Arrow columns."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnxruntime as ort
import pyarrow as pa

from scorebeat.core.errors import ModelError, StoreError, one_line
from scorebeat.models.artifact import MANIFEST, Artifact
from scorebeat.models.contract import AddOptions, Described, Input, Model, Signature
from scorebeat.models.copying import copy_regular
from scorebeat.models.formats.onnx.graph import data_files, nodes_of_training, random_nodes
from scorebeat.models.formats.registry import copy_file
from scorebeat.models.formats.shared import written_by
from scorebeat.models.formats.shared.refusals import error_summary
from scorebeat.models.formats.shared.tensors import Fields, arrays, fields
from scorebeat.models.inputs.matrix import Matrix, matrix, no_nulls_in_tensors
from scorebeat.models.inputs.options import Matched, match_fixed
from scorebeat.models.inputs.own_rows import OwnRows
from scorebeat.models.inputs.samples import NOTHING_KNOWN, Known, trial_rows
from scorebeat.models.outputs.checks import assembled
from scorebeat.models.outputs.column_names import LABEL, output_schema

NAME = "onnx"
DEVICES = ("cpu",)
READS = frozenset({"inputs", "outputs"})
_OUTDATED = re.compile(r"opset|IR version|[Nn]ot implemented|NOT_IMPLEMENTED|No Op registered|not a registered")
"""ONNX Runtime's messages for a file that is newer than it, or that has operators which it lacks."""
CLASSES = "classes"
"""Key of the file's metadata that names the probabilities' columns, as a JSON list."""
_TRIAL_ROWS = 2


@dataclass(frozen=True)
class Tensor:
    """A tensor's element type in Arrow and NumPy."""

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


def take(source: str, draft: Path, add_options: AddOptions) -> str:
    """As `Format.take`: copies the file, and the files with its weights, under the names that it has for them.

    Raises StoreError for a weight file that is absent, or outside the file's own folder.
    """
    name = copy_file(source, draft, add_options)
    for location in data_files(draft / name):
        _copy_data(Path(source), location, draft, name)
    return name


def inspect(path: Path, add_options: AddOptions) -> Described:
    """The inputs and outputs of the model in this file; a trial on two rows shows the widths of its outputs.

    --inputs names the values if there is one tensor of [rows, values].
    Raises StoreError for a model that cannot be used, ModelError for a file that cannot be read.
    """
    if not add_options.unsteady and (nodes := nodes_of_training(path)):
        raise StoreError(
            f"{path.name} is a graph of training, with {', '.join(nodes[:8])}: the same row gets another value at each "
            "run, or among other rows. Call model.eval() before the export, and export it for inference, or accept it "
            "with --allow-unsteady"
        )
    session = _session(path)
    matched = _inputs(session, add_options.inputs, path.name)
    wanted = matched.inputs
    rows = trial_rows(Signature(wanted, pa.schema([])), add_options, _TRIAL_ROWS)
    found, again = (_trial(session, rows, add_options, path.name) for _ in range(2))
    if not add_options.unsteady and not all(map(_is_same, found, again)):
        raise StoreError(
            f"{path.name} returns other values for the same rows at each run"
            f"{', with ' * bool(drawn := random_nodes(path))}{', '.join(drawn[:8])}: export it without random numbers, "
            "or accept it with --allow-unsteady"
        )
    classes = _classes(session)
    columns: Fields = []
    for output, values in zip(session.get_outputs(), found, strict=True):
        columns += _fields(output, values, classes, path.name)
    return Described(Signature(wanted, output_schema(columns, add_options.outputs, path.name)), notes=matched.notes)


def load(artifact: Artifact, device: str) -> Model:
    """The model, ready to score. Raises ModelError when the file is damaged."""
    del device
    return OnnxModel(_session(artifact.path), artifact.signature.outputs)


def known_values(model: Model, signature: Signature) -> Known:
    """As `Format.known_values`: none, because ONNX Runtime shows no constants of a graph."""
    del model, signature
    return NOTHING_KNOWN


def own_predict(artifact: Artifact, own: OwnRows) -> Sequence[Any] | None:
    """As `Format.own_predict`: a session's own run, over arrays of NumPy."""
    session = _session(artifact.path)
    args, inputs = session.get_inputs(), own.signature.inputs
    if len(args) == 1:
        whole = own.column(inputs[0].name) if len(inputs) == 1 else own.matrix(np.object_)
        fed = {args[0].name: _shaped(args[0], whole)}
    else:
        fed = {arg.name: _shaped(arg, own.column(i.name)) for arg, i in zip(args, inputs, strict=True)}
    returned = session.run(None, fed)
    # skl2onnx's ZipMap returns a dict of probabilities for each row
    return [np.array([[*row.values()] for row in each]) if isinstance(each, list) else each for each in returned]


def _shaped(arg: Any, values: Matrix) -> Matrix:
    tensor: Matrix = values.astype(_TENSORS[arg.type].numpy)
    return tensor.reshape(len(tensor), -1) if len(arg.shape) == 2 else tensor.reshape(len(tensor))


class OnnxModel:
    """A session over named tensors. NULL is NaN in a tensor of floats, and refused for a type without NaN."""

    returns_new_arrays = True
    thread_safe = True
    """Several threads may call run(), by ONNX Runtime's documentation."""

    def __init__(self, session: Any, outputs: pa.Schema) -> None:
        self.session = session
        self.outputs = outputs
        self.args = session.get_inputs()

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        if not rows.num_rows:  # some operators refuse a tensor without rows
            return pa.RecordBatch.from_pylist([], schema=self.outputs)
        columns: list[pa.Array] = []
        for values in self.run(rows):
            # skl2onnx's ZipMap returns a dict of probabilities for each row
            is_maps = isinstance(values, list)
            columns += arrays(np.array([[*row.values()] for row in values], dtype=np.float32) if is_maps else values)
        return assembled(columns, self.outputs.names)

    def run(self, rows: pa.RecordBatch) -> list[Any]:
        """The session's outputs for the model's inputs."""
        no_nulls_in_tensors(rows, [arg.type.startswith(("tensor(float", "tensor(double")) for arg in self.args])
        if len(self.args) == 1:
            fed = {self.args[0].name: _tensor(self.args[0], rows)}
        else:
            fed = {arg.name: _tensor(arg, rows.select([at])) for at, arg in enumerate(self.args)}
        outputs: list[Any] = self.session.run(None, fed)
        return outputs


def _session(path: Path) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a worker process has one core
    options.log_severity_level = 4  # an error is raised as well
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common class of their own
        reason = one_line(error).removesuffix(".")
        producer = written_by.of_onnx(path)
        writer = f"written by {producer}: " if producer else ""
        advice = (
            ". Export it with an older opset, or install a newer onnxruntime here and on every worker; operators of "
            "your own are not supported"
        )
        raise ModelError(
            f"{writer}{path.name} cannot be loaded by ONNX Runtime {ort.__version__}: {reason}"
            f"{advice * bool(_OUTDATED.search(reason))}"
        ) from error


def _copy_data(source: Path, location: str, draft: Path, name: str) -> None:
    """Copy one file of weights to the same path below `draft`."""
    path = PurePosixPath(location)
    if not path.parts or path.is_absolute() or ".." in path.parts or any(c in location for c in "\\:\0"):
        raise StoreError(
            f"{source.name} keeps weights in {location!r}, which is not in its own folder: write it again with "
            "onnx.save_model(..., save_as_external_data=True, location='weights.bin')"
        )
    if path.parts[0] in (name, MANIFEST):
        raise StoreError(
            f"{source.name} keeps weights in {location!r}, a name that the store needs: write it again with another"
        )
    found = source.parent / path
    links = [one for one in (found, *found.parents) if one.is_relative_to(source.parent) and one != source.parent]
    if any(one.is_symlink() for one in links):
        raise StoreError(
            f"{source.name} keeps weights in {location!r}, which is a link: put the file itself there (cp -L)"
        )
    if not found.is_file():
        raise StoreError(
            f"{source.name} keeps weights in {location!r}, which is not beside it: copy that file into "
            f"{source.parent.absolute()}, or export with external_data=False, which keeps them in one file up to 2 GB"
        )
    target = draft / path
    target.parent.mkdir(parents=True, exist_ok=True)
    copy_regular(found, target)


def _trial(session: Any, rows: pa.RecordBatch, add_options: AddOptions, file: str) -> list[Any]:
    """What the session returns for these rows. Raises StoreError if they are invented and it fails for them."""
    try:
        return OnnxModel(session, pa.schema([])).run(rows)
    except Exception as error:  # ONNX Runtime's exceptions have no common class of their own
        if add_options.sample is not None:
            raise
        raise StoreError(
            f"{file}: {_TRIAL_ROWS} invented rows do not show what it returns: {error_summary(error)}. Give rows of "
            "yours with --sample FILE or --sample-job JOB"
        ) from error


def _inputs(session: Any, declared: Sequence[str], file: str) -> Matched:
    args = session.get_inputs()
    for arg in args:
        if arg.type not in _TENSORS or len(arg.shape) not in (1, 2):
            raise StoreError(
                f"{file}: input {arg.name} is {arg.type} {arg.shape}, but an input must be [rows] or [rows, values] "
                f"of {', '.join(_TENSORS)}"
            )
        if isinstance(arg.shape[0], int):
            raise StoreError(
                f"{file}: input {arg.name} takes exactly {arg.shape[0]} rows; export it with a dynamic first axis"
            )
    if not declared or len(args) != 1:
        own = []
        for arg in args:
            width = (*arg.shape, 1)[1]
            if not isinstance(width, int):
                raise StoreError(f"{file} does not say how many values {arg.name} has: name them with --inputs a,b,c")
            own.append(Input(arg.name, _TENSORS[arg.type].arrow, None if width == 1 else width))
        return match_fixed(declared, own, file)
    (arg,) = args
    width = (*arg.shape, 1)[1]
    if len(set(declared)) != len(declared) or (isinstance(width, int) and width != len(declared)):
        raise StoreError(f"{file} wants {width} values a row, but --inputs names {', '.join(declared)}")
    return Matched(tuple(Input(name, _TENSORS[arg.type].arrow) for name in declared))


def _tensor(arg: Any, rows: pa.RecordBatch) -> Matrix:
    tensor = matrix(rows, _TENSORS[arg.type].numpy, "C")
    return tensor if len(arg.shape) == 2 else tensor[:, 0]


def _classes(session: Any) -> list[str]:
    """The names of classes in the file's metadata; none if it has no list of them."""
    try:
        names = json.loads(session.get_modelmeta().custom_metadata_map.get(CLASSES, "[]"))
    except ValueError:
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


def _fields(output: Any, values: Any, classes: list[str], file: str) -> Fields:
    """The columns of one output, by its values for the rows of the trial."""
    if output.type.startswith("seq(map("):
        return [(key if isinstance(key, str) else f"class_{key}", pa.float32()) for key in values[0]]
    shape = np.shape(values)
    if output.type not in _TENSORS or len(shape) not in (1, 2) or shape[0] != _TRIAL_ROWS:
        raise StoreError(
            f"{file}: output {output.name} is {output.type} of shape {list(shape)} for {_TRIAL_ROWS} rows, but an "
            f"output must be [rows] or [rows, values] of {', '.join(_TENSORS)}"
        )
    name = LABEL if output.name == "output_label" else output.name
    return fields(name, _TENSORS[output.type].arrow, (*shape, 1)[1], classes)


def _is_same(found: Any, again: Any) -> bool:
    """Whether an output was the same in both runs; NaN equals NaN."""
    if isinstance(found, list):
        return repr(found) == repr(again)
    return bool(np.array_equal(found, again, equal_nan=found.dtype.kind == "f"))
