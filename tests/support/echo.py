"""A model format of the tests' own that returns its inputs: `y` is `x`, `label` is `word`, but for two values of x."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions, Described, Input, Model, Signature
from scorebeat.models.formats import registry
from scorebeat.models.formats.registry import copy_file
from scorebeat.models.inputs.own_rows import OwnRows
from scorebeat.models.inputs.samples import NOTHING_KNOWN, Known

NAME = "echo"
SUFFIX = ".echo"
DEVICES = ("cpu",)
READS = frozenset({"inputs", "outputs", "classes"})
take = copy_file
SIGNATURE = Signature(
    (Input("x", pa.float64()), Input("word", pa.string())), pa.schema([("y", pa.float64()), ("label", pa.string())])
)

JAPANESE = "日本"
RAISES, TRANSLATES = -1.0, -2.0
"""Values of `x`: an error with these words, or a label of them."""


def inspect(path: Path, options: AddOptions) -> Described:
    del path, options
    return Described(SIGNATURE)


def load(artifact: Artifact, device: str) -> "Echo":
    del artifact, device
    return Echo()


def known_values(model: Model, signature: Signature) -> Known:
    del model, signature
    return NOTHING_KNOWN


def own_predict(artifact: Artifact, own: OwnRows) -> Sequence[Any] | None:
    """There is no library to compare with."""
    del artifact, own
    return None


class Echo:
    """The two inputs are the two outputs."""

    outputs = SIGNATURE.outputs

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        x, words = rows.column("x").to_pylist(), rows.column("word").to_pylist()
        if RAISES in x:
            raise ValueError(JAPANESE)
        words = [JAPANESE if value == TRANSLATES else word for value, word in zip(x, words, strict=True)]
        return pa.RecordBatch.from_arrays([rows.column("x"), pa.array(words, pa.string())], schema=self.outputs)


registry.register(SUFFIX, __name__)
