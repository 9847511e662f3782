"""The tensors that an exported PyTorch program returns, as columns of values or of a classifier's probabilities."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.utils import _pytree as pytree

from scorebeat.core.errors import StoreError
from scorebeat.models.contract import AddOptions
from scorebeat.models.formats.shared.tensors import WIDE, Fields, class_fields, fields
from scorebeat.models.formats.torch.inputs import TYPES
from scorebeat.models.inputs.matrix import Matrix
from scorebeat.models.inputs.options import classes_of

_NARROW = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.int8: torch.int16,
    torch.uint8: torch.int16,
}
"""Types that no column can have, each with the next wider type that one can."""


def named(found: Any) -> list[tuple[str, torch.Tensor]]:
    """The tensors that a program returned, named as in its dict, else `output_0` ...; one alone, by its width."""
    leaves = pytree.tree_leaves(found)
    if isinstance(found, Mapping) and len(found) == len(leaves):
        return [*zip(map(str, found), found.values(), strict=True)]
    if len(leaves) == 1:
        width = _width(leaves[0])
        name = "value" if width == 1 else "output"
        return [("embedding" if width > WIDE else name, leaves[0])]
    return [(f"output_{at}", leaf) for at, leaf in enumerate(leaves)]


def columns_of(found: Any, rows: int, add_options: AddOptions, file: str) -> tuple[Fields, dict[str, Any]]:
    """The output columns of what a program returned for so many rows, and their options for `load`.

    Raises StoreError for anything but tensors of [rows] or [rows, values], or if they do not fit --classes.
    """
    tensors = named(found)
    for name, tensor in tensors:
        known = isinstance(tensor, torch.Tensor) and tensor.dim() in (1, 2) and _kept(tensor) in TYPES
        if not (known and len(tensor) == rows and _width(tensor)):
            what = f"{tensor.dtype} {list(tensor.shape)}" if isinstance(tensor, torch.Tensor) else repr(tensor)
            raise StoreError(
                f"{file}: output {name} is {what} for {rows} rows, but an output must be [rows] or [rows, values] of "
                "numbers: wrap the model in a module that returns those alone"
            )
    if not add_options.classes:
        return [field for name, tensor in tensors for field in fields(name, _arrow(tensor), _width(tensor))], {}
    if len(tensors) != 1 or not tensors[0][1].is_floating_point():
        shown = ", ".join(f"{name} {tensor.dtype}" for name, tensor in tensors)
        raise StoreError(f"{file} returns {shown}, but --classes wants one tensor with a score a class")
    scores = tensors[0][1]
    classes = classes_of(add_options.classes, max(2, _width(scores)), file)
    softmax = not _is_probability(scores)
    return class_fields(np.asarray(classes), _arrow(scores)), {"classes": classes, "softmax": softmax}


def by_class(scores: torch.Tensor, logits: bool) -> torch.Tensor:
    """[rows, classes] of what the model returned; one value a row is the score of the second of two classes."""
    scores = scores.to(_kept(scores))
    if _width(scores) > 1:
        return scores
    second = scores.reshape(-1)
    return torch.stack([torch.zeros_like(second) if logits else 1 - second, second], dim=1)


def joined(parts: list[Any]) -> Any:
    """What a program returned for several parts of the rows, joined."""
    return pytree.tree_map(
        lambda *each: torch.cat(each) if isinstance(each[0], torch.Tensor) and each[0].dim() else each[0], *parts
    )


def alike(found: torch.Tensor, again: torch.Tensor) -> bool:
    """Whether three rows in four differ by less than 1 %: rounding may change a few, noise changes most."""
    if found.shape != again.shape:
        return True  # `columns_of` refuses such an output
    first, second = (torch.nan_to_num(each.double(), 0, 0, 0).reshape(len(each), -1) for each in (found, again))
    differ = (first - second).abs().amax(dim=1) > 0.01 * first.abs().amax(dim=1)
    return bool(differ.double().mean() <= 0.25)


def numpy_of(tensor: torch.Tensor) -> Matrix:
    """The tensor's values on the CPU."""
    values: Matrix = tensor.to(_kept(tensor)).cpu().numpy()
    return values


def _is_probability(scores: torch.Tensor) -> bool:
    """Whether all values are in 0 to 1, and sum to 1 if a row has several; the rows had inputs of all sizes."""
    known = scores.double().reshape(len(scores), -1)
    known = known[known.isfinite().all(dim=1)]
    sums = known.sum(dim=1)
    in_range = ((known >= 0) & (known <= 1)).all()
    return bool(in_range) and (_width(scores) == 1 or torch.allclose(sums, torch.ones_like(sums), atol=1e-2))


def _width(tensor: Any) -> int:
    return int(tensor.shape[1]) if isinstance(tensor, torch.Tensor) and tensor.dim() == 2 else 1


def _kept(tensor: torch.Tensor) -> torch.dtype:
    return _NARROW.get(tensor.dtype, tensor.dtype)


def _arrow(tensor: torch.Tensor) -> pa.DataType:
    return TYPES[_kept(tensor)][0]
