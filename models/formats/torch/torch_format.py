"""PyTorch programs in .pt2 files: read without running code, and scored on one CPU thread or a GPU."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.export.passes import move_to_device_pass
from torch.export.pt2_archive._package import load_pt2
from torch.utils import _pytree as pytree

from scorebeat.core.errors import DeviceMemoryError, ModelError, StoreError, one_line, text
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions, Described, Model, Signature
from scorebeat.models.formats.registry import copy_file
from scorebeat.models.formats.shared.labels import Labels
from scorebeat.models.formats.shared.tensors import arrays, class_arrays
from scorebeat.models.formats.torch.archive import refuse_code
from scorebeat.models.formats.torch.inputs import feed, inputs_of, repeated, rows_at_once, spread, tensors_of
from scorebeat.models.formats.torch.outputs import alike, by_class, columns_of, joined, named, numpy_of
from scorebeat.models.inputs.matrix import no_nulls_in_tensors
from scorebeat.models.inputs.own_rows import OwnRows
from scorebeat.models.inputs.samples import NOTHING_KNOWN, Known
from scorebeat.models.outputs.checks import assembled
from scorebeat.models.outputs.column_names import output_schema

NAME = "torch"
DEVICES = ("cpu", "cuda")
READS = frozenset({"inputs", "outputs", "classes"})
take = copy_file
_TRIAL_ROWS = 64


def inspect(path: Path, add_options: AddOptions) -> Described:
    """The inputs and outputs of the program in this file; a trial shows its outputs.

    --inputs names the values if there is one tensor of [rows, values]; --classes makes a classifier of a model
    that returns a score a class. Raises StoreError for a program that cannot be used, ModelError for a file that
    cannot be read or could run code.
    """
    exported = _open(path)
    matched = inputs_of(exported, add_options.inputs, path.name)
    wanted = matched.inputs
    program, half = Program(exported, "cpu"), _TRIAL_ROWS // 2
    rows = spread(Signature(wanted, pa.schema([])), _TRIAL_ROWS)
    found, again = program.run(rows), joined([program.run(rows.slice(0, half)), program.run(rows.slice(half))])
    pairs = zip(pytree.tree_leaves(found), pytree.tree_leaves(again), strict=True)
    if not add_options.unsteady and not all(
        alike(one, other) for one, other in pairs if isinstance(one, torch.Tensor) and one.dim()
    ):
        raise StoreError(
            f"{path.name} returns other values for the same rows at another time or among other rows, as in training: "
            "call model.eval() before torch.export.export, or accept it with --allow-unsteady"
        )
    columns, options = columns_of(found, _TRIAL_ROWS, add_options, path.name)
    return Described(Signature(wanted, output_schema(columns, add_options.outputs, path.name)), options, matched.notes)


def load(artifact: Artifact, device: str) -> Model:
    """The model, ready to score. Raises ModelError if the file is damaged or could run code."""
    torch.set_num_threads(1)  # a worker process has one core
    program, outputs = Program(_open(artifact.path), device), artifact.signature.outputs
    if "classes" in artifact.options:
        return ClassModel(program, outputs, artifact.options["classes"], artifact.options["softmax"])
    return TensorModel(program, outputs)


def known_values(model: Model, signature: Signature) -> Known:
    """As `Format.known_values`: none, because a program does not show them."""
    del model, signature
    return NOTHING_KNOWN


def own_predict(artifact: Artifact, own: OwnRows) -> Sequence[Any] | None:
    """As `Format.own_predict`: a call of the program itself, over tensors made of NumPy's arrays."""
    torch.set_num_threads(1)
    exported = _open(artifact.path)
    tensors, (fewest, most) = tensors_of(exported), rows_at_once(exported)
    if not fewest <= len(own) <= most:
        return None
    arrays = [own.matrix()] if len(tensors) == 1 else [own.column(i.name) for i in own.signature.inputs]
    fed = []
    for tensor, array in zip(tensors, arrays, strict=True):
        shaped = array.reshape((len(array),) if tensor.flat else (len(array), -1))
        fed.append(torch.from_numpy(np.ascontiguousarray(shaped)).to(tensor.type))
    args, kwargs = pytree.tree_unflatten(fed, exported.call_spec.in_spec)
    with torch.no_grad():
        found = exported.module(check_guards=False)(*args, **kwargs)
    if "classes" not in artifact.options:
        return [numpy_of(tensor) for _, tensor in named(found)]
    ((_, output),) = named(found)
    softmax = artifact.options["softmax"]
    scores = by_class(output, softmax)
    labels = np.asarray(artifact.options["classes"])[numpy_of(scores).argmax(axis=1)]
    return [labels, numpy_of(torch.softmax(scores, dim=1) if softmax else scores)]


class Program:
    """A program on a device, and its input tensors."""

    def __init__(self, exported: Any, device: str) -> None:
        self.device = device
        self.tensors = tensors_of(exported)
        self.fewest, self.most = rows_at_once(exported)
        self.nesting = exported.call_spec.in_spec
        self.is_stateless = not exported.graph_signature.buffers_to_mutate
        moved = exported if device == "cpu" else move_to_device_pass(exported, device)
        # guards are Python text in the file, so they are not run; rows_at_once and the inputs check shapes instead
        self.module = moved.module(check_guards=False)

    def run(self, rows: pa.RecordBatch) -> Any:
        """The program's outputs on its device, in its own nesting.

        NULL is NaN in a tensor of floats, and refused for a type without NaN.
        """
        no_nulls_in_tensors(rows, [tensor.type.is_floating_point for tensor in self.tensors])
        parts = [self._run_part(rows.slice(at, self.most)) for at in range(0, rows.num_rows, self.most)]
        return parts[0] if len(parts) == 1 else joined(parts)

    def _run_part(self, rows: pa.RecordBatch) -> Any:
        fed = feed(self.tensors, repeated(rows, self.fewest), self.device)
        with torch.inference_mode():
            args, kwargs = pytree.tree_unflatten(fed, self.nesting)
            found = self.module(*args, **kwargs)
            if rows.num_rows >= self.fewest:
                return found
            return pytree.tree_map_only(torch.Tensor, lambda tensor: tensor[: rows.num_rows], found)


class TensorModel:
    """A program whose tensors become columns."""

    def __init__(self, program: Program, outputs: pa.Schema) -> None:
        self.program = program
        self.outputs = outputs
        self.thread_safe = program.is_stateless
        """PyTorch runs one program in several threads, as long as it writes to no buffer of its own."""

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Raises DeviceMemoryError if the device lacks memory for the rows."""
        if not rows.num_rows:
            return pa.RecordBatch.from_pylist([], schema=self.outputs)
        try:
            columns = self.columns(self.program.run(rows))
        except torch.OutOfMemoryError as error:
            reason = text(error).partition("\n")[0]
        else:
            return assembled(columns, self.outputs.names)
        # raised outside of the block: PyTorch's error holds frames, and these hold the tensors that fill the device
        torch.cuda.empty_cache()
        raise DeviceMemoryError(
            f"{self.program.device} has too little memory to score {rows.num_rows} rows at once: {reason}"
        )

    def columns(self, found: Any) -> list[pa.Array]:
        """The output columns of what the program returned."""
        return [column for _, tensor in named(found) for column in arrays(numpy_of(tensor))]


class ClassModel(TensorModel):
    """A classifier: its label, then one column of probabilities a class."""

    def __init__(self, program: Program, outputs: pa.Schema, classes: Sequence[str], softmax: bool) -> None:
        super().__init__(program, outputs)
        self.classes = np.asarray(classes)
        self.labels = Labels(self.classes)
        self.softmax = softmax

    def columns(self, found: Any) -> list[pa.Array]:
        ((_, output),) = named(found)
        scores = by_class(output, self.softmax)
        probabilities = numpy_of(torch.softmax(scores, dim=1) if self.softmax else scores)
        return class_arrays(
            self.labels, probabilities, lambda near: self.classes[numpy_of(scores)[near].argmax(axis=1)]
        )


def _open(path: Path) -> Any:
    try:
        refuse_code(path)
        return load_pt2(str(path)).exported_programs["model"]
    except ModelError:
        raise
    except Exception as error:  # a damaged file may fail in any of the layers that read it
        reason = one_line(error)[:200]
        raise ModelError(
            f"{path.name} cannot be read as an exported program by PyTorch {torch.__version__}: "
            f"{type(error).__name__}: {reason}. Write it again with torch.export.save, under this version"
        ) from error
