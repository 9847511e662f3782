"""Shared by models of XGBoost and LightGBM: inputs, outputs, and a first opening in a process that may crash."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from scorebeat.core.errors import ModelError, StoreError
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions, Described, Input, Model, Signature
from scorebeat.models.formats.registry import missing_module_error
from scorebeat.models.formats.shared.labels import Labels
from scorebeat.models.formats.shared.tensors import arrays, class_arrays, class_fields, fields
from scorebeat.models.inputs.matrix import Matrix, matrix
from scorebeat.models.inputs.options import Matched, classes_of, match_names, named_inputs
from scorebeat.models.outputs.checks import assembled
from scorebeat.models.outputs.column_names import output_schema

_OPENING_SECONDS = 120
"""Most seconds that the first opening may take."""
_LIGHT = "import sys; sys.modules.update(pandas=None, sklearn=None)\n"
"""Both libraries then take these for not installed. A booster needs neither, and they take most of the import time."""
_SOURCE_LINE = re.compile(r"^\[[\d:]+\] \S+: ")
"""The prefix of a message: a time and a line of the library's source."""


@dataclass(frozen=True)
class Booster:
    """An opened model, and what its columns depend on."""

    columns: Sequence[Input]
    """The columns of training, by the library; none if the file has no names for them."""
    count: int
    """Number of its inputs."""
    classes: int
    """A classifier's number of classes, else 0."""
    arrow: pa.DataType
    """The type of inputs and outputs; `numpy` is the same type in NumPy."""
    numpy: type[np.floating]
    score: Callable[[Any], Matrix]
    """[rows, count] or a DataFrame to [rows] or [rows, values]; for two classes to the second one's probability."""
    thread_safe: bool
    """Whether several threads may call `score` at once, by the library's documentation."""


def try_to_open(opening: str, path: Path, library: str) -> None:
    """Run the Python text `opening`, with `path` as its argument, in a process of its own.

    The libraries end the whole process on some damaged files (tried: a .ubj cut short, a .txt cut short).
    Raises ModelError with the library's message, or with the signal that ended the process.
    """
    command = [sys.executable, "-c", _LIGHT + opening, str(path.absolute())]
    try:
        done = subprocess.run(
            command, cwd=path.parent, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
            errors="replace", timeout=_OPENING_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ModelError(f"{path.name} is not read by {library} within {_OPENING_SECONDS} s") from None
    if not done.returncode:
        return
    if done.returncode < 0:
        reason = f"reading it ended the process with {signal.Signals(-done.returncode).name}"
    else:
        lines = (done.stdout or done.stderr).strip().splitlines() or ["no reason given"]
        reason = _SOURCE_LINE.sub("", lines[-1])[:300]
    raise ModelError(
        f"{path.name} cannot be read by {library}: {reason}. It is damaged, of a newer version, or no such model; "
        "write it again with save_model"
    )


def describe(booster: Booster, add_options: AddOptions, file: str) -> Described:
    """The signature of a model; by default a classifier's classes are numbers.

    Raises StoreError if the options do not fit the model.
    """
    scored = booster.score(np.zeros((1, booster.count), dtype=booster.numpy))
    columns = fields("value", booster.arrow, 1 if scored.ndim == 1 else int(scored.shape[1]))
    classes: list[str] = []
    if booster.classes:
        classes = classes_of(add_options.classes, booster.classes, file)
        columns = class_fields(_classes(classes, booster), booster.arrow)
    elif add_options.classes:
        raise StoreError(f"{file} is no classifier: leave --classes out")
    wanted = _inputs(booster, add_options.inputs, file)
    signature = Signature(wanted.inputs, output_schema(columns, add_options.outputs, file))
    return Described(signature, {"classes": classes} if classes else {}, wanted.notes)


def model_of(booster: Booster, artifact: Artifact) -> Model:
    """The model of an artifact that `describe` described."""
    if booster.classes:
        return ClassModel(booster, artifact)
    return ValueModel(booster, artifact.signature)


class ValueModel:
    """A regressor or ranker: `value`, or a column a target. NULL reaches it as NaN, which means missing."""

    returns_new_arrays = True

    def __init__(self, booster: Booster, signature: Signature) -> None:
        """Raises ModelError if categories need pandas and it is absent."""
        self.booster = booster
        self.thread_safe = booster.thread_safe
        self.outputs = signature.outputs
        self.convert = _converter(booster, signature)

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        if not rows.num_rows:
            return pa.RecordBatch.from_pylist([], schema=self.outputs)
        scores = self.booster.score(self.convert(rows))
        return assembled(self.columns(scores), self.outputs.names)

    def columns(self, scores: Matrix) -> list[pa.Array]:
        """The output columns of the booster's scores."""
        return arrays(scores)


class ClassModel(ValueModel):
    """A classifier: its label, which is the class of the highest probability, then one column a class."""

    def __init__(self, booster: Booster, artifact: Artifact) -> None:
        super().__init__(booster, artifact.signature)
        self.classes = _classes(artifact.options.get("classes", []), booster)
        self.labels = Labels(self.classes)

    def columns(self, scores: Matrix) -> list[pa.Array]:
        probabilities = scores if scores.ndim == 2 else np.column_stack([1 - scores, scores])
        return class_arrays(self.labels, probabilities, lambda near: self.classes[probabilities[near].argmax(axis=1)])


def own_columns(booster: Booster, returned: Matrix, artifact: Artifact) -> list[Matrix]:
    """A booster's own predictions in the order of the output columns; those of a classifier begin with the label.

    If the booster returned only the numbers of classes, the label is the only column.
    """
    if not booster.classes:
        return [returned]
    classes = _classes(artifact.options.get("classes", []), booster)
    if returned.ndim == 1 and booster.classes > 2:
        return [classes[returned.astype(int)]]
    probabilities = returned if returned.ndim == 2 else np.column_stack([1 - returned, returned])
    return [classes[probabilities.argmax(axis=1)], probabilities]


def _classes(declared: Sequence[str], booster: Booster) -> Matrix:
    return np.asarray(declared) if declared else np.arange(booster.classes)


def _converter(booster: Booster, signature: Signature) -> Callable[[pa.RecordBatch], Any]:
    """A function that converts rows for the library: to a DataFrame if it was fitted on categories, else a matrix."""
    if not any(i.trained.categories for i in signature.inputs):
        return lambda rows: matrix(rows, booster.numpy, "C")
    try:
        from scorebeat.models.formats.shared.frame import frame  # noqa: PLC0415 -- pandas may not be installed
    except ModuleNotFoundError as error:
        raise missing_module_error(error, "a model that was fitted on categories") from error
    return lambda rows: frame(rows, signature.inputs)


def _inputs(booster: Booster, declared: Sequence[str], file: str) -> Matched:
    own = [i if i.trained.categories else replace(i, type=booster.arrow) for i in booster.columns]
    if own:
        matched = match_names(declared, own, file)
    elif declared:
        matched = Matched(named_inputs(declared, booster.arrow))
    else:
        return Matched((Input("features", booster.arrow, booster.count),))
    inputs = matched.inputs
    if (count := sum(i.length or 1 for i in inputs)) != booster.count:
        raise StoreError(f"{file} wants {booster.count} inputs, but --inputs names {count}: {', '.join(declared)}")
    numbers = [i for i in inputs if not i.trained.categories]
    if wrong := [str(i) for i in numbers if pa.types.is_string(i.type) or pa.types.is_temporal(i.type)]:
        raise StoreError(f"{file}: --inputs: {', '.join(wrong)}: trees take numbers only")
    if any(i.length for i in inputs) and any(i.trained.categories for i in own):
        raise StoreError(f"{file} takes columns, not arrays: it was fitted on categories. Leave --inputs out")
    return matched
