"""PyTorch programs of the shapes that people export, each with the loop that its predictions must equal.

torch is an extra: it is imported when a file is written, and not before.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Loop = Callable[[NDArray[np.float64]], list[Any]]
Writer = Callable[[Path], tuple[Path, Loop]]
WIDTH = 100
CLASSES = ("setosa", "versicolor", "virginica")


def export(folder: Path, model: Any, args: tuple[Any, ...], axes: Mapping[str, Any] | None = None) -> Path:
    """Save the model, after .eval(), as a program of as many rows as there are, unless `axes` are set."""
    torch = import_module("torch")

    rows = torch.export.Dim("rows")
    dynamic = tuple({0: rows} for _ in args) if axes is None else axes
    torch.export.save(torch.export.export(model.eval(), args, dynamic_shapes=dynamic), folder / "m.pt2")
    return folder / "m.pt2"


def module(forward: Callable[..., Any]) -> Any:
    """A module without weights that computes the function."""
    nn = import_module("torch").nn
    return type("Computed", (nn.Module,), {"forward": forward})()


def linear(width: int, *ends: Any) -> Any:
    """Random weights, [rows, 4] to [rows, width], with a hidden layer."""
    torch = import_module("torch")

    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, width), *ends)


def lone(width: int, dtype: str = "float32") -> Writer:
    """One tensor of [rows, 4] to one of [rows, width], or to [rows] where the width is 0."""

    def write(folder: Path) -> tuple[Path, Loop]:
        torch = import_module("torch")

        own = getattr(torch, dtype)
        model = linear(width or 1, *([] if width else [torch.nn.Flatten(0)])).to(own)
        path = export(folder, model, (torch.ones(3, 4, dtype=own),))

        def loop(row: NDArray[np.float64]) -> list[Any]:
            with torch.no_grad():
                found = model(torch.from_numpy(row).to(own)).reshape(-1).tolist()
            return [found] if width > 64 else found

        return path, loop

    return write


def many(folder: Path) -> tuple[Path, Loop]:
    """Four tensors of [rows] to a dict of two, exported without a name for the axis."""
    torch = import_module("torch")

    def sums(self: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
        del self
        return {"sum": a + b + c + d, "pairs": torch.stack([a * b, c * d], 1)}

    axes = {name: {0: torch.export.Dim.DYNAMIC} for name in "abcd"}
    path = export(folder, module(sums), tuple(torch.ones(3) for _ in range(4)), axes)

    def loop(row: NDArray[np.float64]) -> list[Any]:
        a, b, c, d = row[0].astype(np.float32).tolist()
        return [a + b + c + d, a * b, c * d]

    return path, loop


def scores(classes: tuple[str, ...], *, ends_as_probabilities: bool) -> Writer:
    """A score a class, or one for the second of two classes; logits, or with softmax or sigmoid at the end."""

    def write(folder: Path) -> tuple[Path, Loop]:
        torch = import_module("torch")

        alone = len(classes) == 2
        end = torch.nn.Sigmoid() if alone else torch.nn.Softmax(1)
        logits = linear(1 if alone else len(classes))
        model = torch.nn.Sequential(logits, end) if ends_as_probabilities else logits
        path = export(folder, model, (torch.ones(3, 4),))

        def loop(row: NDArray[np.float64]) -> list[Any]:
            with torch.no_grad():
                found = end(logits(torch.from_numpy(row).float()))[0].tolist()
            each = [1 - found[0], found[0]] if alone else found
            return [classes[int(np.argmax(each))], *each]

        return path, loop

    return write
