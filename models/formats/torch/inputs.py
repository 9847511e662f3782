"""The tensors that an exported PyTorch program takes, and Arrow columns as these tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from scorebeat.core.errors import StoreError
from scorebeat.models.contract import Input, Signature
from scorebeat.models.inputs.matrix import Matrix, matrix
from scorebeat.models.inputs.options import Matched, match_fixed, named_inputs

TYPES = {
    torch.float32: (pa.float32(), np.float32),
    torch.float64: (pa.float64(), np.float64),
    torch.int64: (pa.int64(), np.int64),
    torch.int32: (pa.int32(), np.int32),
    torch.int16: (pa.int16(), np.int16),
    torch.bool: (pa.bool_(), np.bool_),
}
"""Element types that a column can have, in Arrow and in NumPy."""
_MOST = 2**31 - 1
_HOW = (
    "export it with a dynamic first axis: torch.export.export(model, args, "
    "dynamic_shapes={name: {0: torch.export.Dim('rows')}}) with every tensor's name"
)


@dataclass(frozen=True)
class Tensor:
    """One input tensor of a program."""

    name: str
    type: Any
    """Its dtype in torch."""
    width: int | None
    """Values a row; None if the program does not fix it."""
    flat: bool
    """Whether it is [rows] rather than [rows, values]."""


def tensors_of(exported: Any) -> list[Tensor]:
    """The program's user inputs, in order. Raises StoreError for one that rows cannot feed."""
    values = _placeholders(exported)
    tensors = []
    for name in exported.graph_signature.user_inputs:
        value = values.get(name)
        if not isinstance(value, torch.Tensor) or value.dtype not in TYPES or value.dim() not in (1, 2):
            what = f"{value.dtype} {list(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)
            types = ", ".join(str(t).removeprefix("torch.") for t in TYPES)
            raise StoreError(f"input {name} is {what}, but an input must be [rows] or [rows, values] of {types}")
        width = (*value.shape, 1)[1]
        tensors.append(Tensor(str(name), value.dtype, width if isinstance(width, int) else None, value.dim() == 1))
    return tensors


def rows_at_once(exported: Any) -> tuple[int, int]:
    """The fewest and the most rows that the program takes. Raises StoreError if it takes only one number of rows."""
    values = _placeholders(exported)
    axes = {name: values[name].shape[0] for name in exported.graph_signature.user_inputs}
    ranges = {name: exported.range_constraints.get(_symbol(size)) for name, size in axes.items()}
    if fixed := [name for name, bounds in ranges.items() if bounds is None]:
        sizes = ", ".join(f"{name} takes exactly {axes[name]} rows" for name in fixed)
        raise StoreError(f"input {sizes}; {_HOW}")
    if len(set(map(_symbol, axes.values()))) > 1:
        raise StoreError(f"inputs {', '.join(axes)} may have different numbers of rows; {_HOW}, all of them one Dim")
    bounds = next(iter(ranges.values()))
    return max(1, int(bounds.lower)), int(bounds.upper) if bounds.upper.is_Integer else _MOST


def inputs_of(exported: Any, declared: Sequence[str], file: str) -> Matched:
    """The model's inputs: one array `features`, or those of --inputs; several tensors have the program's names."""
    try:
        tensors = tensors_of(exported)
        rows_at_once(exported)
    except StoreError as error:
        raise StoreError(f"{file}: {error}") from None
    if len(tensors) != 1:
        return match_fixed(declared, [_input(tensor, tensor.name, file) for tensor in tensors], file)
    (lone,) = tensors
    if not declared:
        return Matched((_input(lone, lone.name if lone.flat else "features", file),))
    inputs = named_inputs(declared, TYPES[lone.type][0])
    values = sum(i.length or 1 for i in inputs)
    if lone.width not in (None, values):
        raise StoreError(f"{file} wants {lone.width} values a row, but --inputs names {values}: {', '.join(declared)}")
    if wrong := [str(i) for i in inputs if i.type not in (arrow for arrow, _ in TYPES.values())]:
        raise StoreError(f"{file}: --inputs: {', '.join(wrong)}: a tensor holds numbers only")
    return Matched(inputs)


def feed(tensors: Sequence[Tensor], rows: pa.RecordBatch, device: str) -> list[torch.Tensor]:
    """The rows as the program's tensors, on the device; no tensor shares memory with the rows."""
    if len(tensors) == 1:
        return [_fed(tensors[0], rows, device)]
    return [_fed(tensor, rows.select([at]), device) for at, tensor in enumerate(tensors)]


def repeated(rows: pa.RecordBatch, fewest: int) -> pa.RecordBatch:
    """The rows; if they are fewer than `fewest`, the last one is repeated."""
    if rows.num_rows >= fewest:
        return rows
    return rows.take(pa.array([min(at, rows.num_rows - 1) for at in range(fewest)]))


def spread(signature: Signature, rows: int) -> pa.RecordBatch:
    """Invented rows: floats of all sizes from a thousandth to ten thousand, zeros and ones for other types."""
    rng = np.random.default_rng(0)
    columns = []
    for wanted in signature.inputs:
        count = rows * (wanted.length or 1)
        values: Matrix = rng.integers(0, 2, count)
        if pa.types.is_floating(wanted.type):
            values = rng.normal(size=count) * 10.0 ** np.repeat(rng.uniform(-3, 4, rows), count // rows)
        flat = pa.array(values).cast(wanted.type)
        columns.append(flat if wanted.length is None else pa.FixedSizeListArray.from_arrays(flat, wanted.length))
    return pa.RecordBatch.from_arrays(columns, schema=signature.columns)


def _placeholders(exported: Any) -> dict[str, Any]:
    return {node.name: node.meta.get("val") for node in exported.graph.nodes if node.op == "placeholder"}


def _symbol(size: Any) -> Any:
    return size if isinstance(size, int) else size.node.expr


def _input(tensor: Tensor, name: str, file: str) -> Input:
    if tensor.width is None:
        raise StoreError(f"{file} does not say how many values {tensor.name} has: name them with --inputs a,b,c")
    return Input(name, TYPES[tensor.type][0], None if tensor.width == 1 else tensor.width)


def _fed(tensor: Tensor, rows: pa.RecordBatch, device: str) -> torch.Tensor:
    values = np.require(matrix(rows, TYPES[tensor.type][1], "C"), requirements=["C", "W"])
    found = torch.from_numpy(values[:, 0] if tensor.flat else values)
    return found.to(device)
