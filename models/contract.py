"""What every model is to the rest of Scorebeat, whatever its format."""

from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa


@dataclass(frozen=True)
class Input:
    """One input of a model: a column, or an array of fixed length when `length` is set."""

    name: str
    type: pa.DataType
    """Type of one value (of one element, for an array)."""
    length: int | None = None


@dataclass(frozen=True)
class Signature:
    """What a model wants and gives, by column name."""

    inputs: tuple[Input, ...]
    outputs: pa.Schema


class Model(Protocol):
    """A loaded model."""

    outputs: pa.Schema

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Score rows.

        `rows` has the signature's inputs in their order: scalar columns, and a FixedSizeList for an
        array input. Returns as many rows, in the same order, with exactly the columns of `outputs`.
        Called outside any database transaction.
        """
        ...
