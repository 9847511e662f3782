"""A large torch model: a transformer encoder over four numbers, random weights, as a .pt2 file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Shape:
    """How heavy: a row costs about 24 tokens x width^2 x layers operations."""

    layers: int = 6
    width: int = 512
    tokens: int = 32
    heads: int = 8


def export(path: Path, shape: Shape) -> None:
    """Write the model: inputs `[rows, 4]`, outputs `[rows, 3]`."""
    import torch  # noqa: PLC0415 -- optional, and the benchmark reports when it is absent

    torch.manual_seed(7)
    rows = {0: torch.export.Dim("rows", min=1)}
    program = torch.export.export(_encoder(shape).eval(), (torch.rand(64, 4),), dynamic_shapes=(rows,))
    torch.export.save(program, path)


def _encoder(shape: Shape) -> Any:
    from torch import nn  # noqa: PLC0415

    class Block(nn.Module):  # type: ignore[misc]  # torch is optional, so its types are not read
        def __init__(self) -> None:
            super().__init__()
            self.before, self.between = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)
            self.attends, self.joins = nn.Linear(shape.width, 3 * shape.width), nn.Linear(shape.width, shape.width)
            self.wide = nn.Sequential(
                nn.Linear(shape.width, 4 * shape.width), nn.GELU(), nn.Linear(4 * shape.width, shape.width)
            )

        def forward(self, x: Any) -> Any:
            parts = self.attends(self.before(x)).unflatten(2, (3, shape.heads, -1)).permute(2, 0, 3, 1, 4)
            seen = nn.functional.scaled_dot_product_attention(parts[0], parts[1], parts[2])
            x = x + self.joins(seen.transpose(1, 2).flatten(2))
            return x + self.wide(self.between(x))

    class Encoder(nn.Module):  # type: ignore[misc]  # as above
        def __init__(self) -> None:
            super().__init__()
            self.spread = nn.Linear(4, shape.tokens * shape.width)
            self.blocks = nn.Sequential(*(Block() for _ in range(shape.layers)))
            self.head = nn.Linear(shape.width, 3)

        def forward(self, x: Any) -> Any:
            return self.head(self.blocks(self.spread(x).unflatten(1, (shape.tokens, shape.width))).mean(1))

    return Encoder()
