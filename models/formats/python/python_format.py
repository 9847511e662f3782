"""A model as a Python class, `module:Class`: code that runs before and after other models, or instead of one.

The class has

    inputs = {"review": "string"}                             # name -> type, as in model.toml
    outputs = {"label": "string", "positive": "float64"}

    def __init__(self, files: Path, device: str): ...         # `files` has the files of --file
    def predict(self, rows: pa.RecordBatch) -> dict | pa.RecordBatch: ...

`inputs` and `outputs` are attributes of the class, or `__init__` sets them. A type is float64, string,
float32[784] and so on (models.arrow_types). `device` is `cpu` or `cuda`. `predict` gets the columns of
`inputs`, at least one row, and returns the columns of `outputs`: a dict of arrays, lists or pandas columns,
one value a row, in the rows' order. They are copied before `predict` is called again. Only one thread of the API
calls it at a time, unless the class has `thread_safe = True`. models.inner.open_model opens a model file among `files`.
"""

import inspect as inspect_module
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from scorebeat.core.errors import (
    DeviceMemoryError,
    ModelError,
    NonsenseError,
    OutputError,
    ScorebeatError,
    StoreError,
    near,
    one_line,
    text,
)
from scorebeat.models.arrow_types import type_named
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions, Described, Input, Model, Signature
from scorebeat.models.formats.python.private_import import PrivateCode
from scorebeat.models.formats.python.source import CODE, FILES, copy_code, copy_files
from scorebeat.models.formats.registry import missing_module_error
from scorebeat.models.inputs.options import named_inputs
from scorebeat.models.inputs.own_rows import OwnRows
from scorebeat.models.inputs.samples import NOTHING_KNOWN, Known
from scorebeat.models.outputs.checks import assembled
from scorebeat.models.outputs.column_names import output_schema
from scorebeat.models.scoring.containment import contained

NAME = "python"
DEVICES = ("cpu", "cuda")
READS = frozenset({"files"})


def take(source: str, draft: Path, add_options: AddOptions) -> str:
    """Copy the class's module, or the whole package that it is in, and the files of --file; returns `source`.

    Nothing is imported. Raises StoreError if there is no such source, or if two files have one name.
    """
    copy_code(source.partition(":")[0], draft / CODE)
    copy_files(add_options.files, draft / FILES)
    return source


def inspect(path: Path, add_options: AddOptions) -> Described:
    """The inputs and outputs that the class declares; `path` is the draft folder and `module:Class`, which is no file.

    Raises StoreError if there is no such class or it is no such model, ModelError if its code fails.
    """
    if add_options.inputs or add_options.outputs or add_options.classes:
        raise StoreError(f"{path.name} names its inputs and outputs itself: leave --inputs, --outputs, --classes out")
    code, instance = _instantiate(path.parent, path.name, "cpu")
    try:
        return Described(_signature(instance, path.name))
    finally:
        code.forget()


def load(artifact: Artifact, device: str) -> Model:
    """An object of the class, imported under a private name, for `device`. Raises ModelError if its code fails."""
    code, instance = _instantiate(artifact.folder, artifact.file, device)
    return PythonModel(code, instance, artifact.file, artifact.signature.outputs)


def known_values(model: Model, signature: Signature) -> Known:
    """As `Format.known_values`: none, because a class does not show them."""
    del model, signature
    return NOTHING_KNOWN


def own_predict(artifact: Artifact, own: OwnRows) -> Sequence[Any] | None:
    """As `Format.own_predict`: there is no library but the class itself."""
    del artifact, own
    return None


class PythonModel:
    """An object of the class. An exception of `predict` is not changed: it is the error of the row or the batch."""

    def __init__(self, code: PrivateCode, instance: Any, name: str, outputs: pa.Schema) -> None:
        self.instance = instance
        self.name = name
        self.thread_safe = getattr(instance, "thread_safe", False) is True
        self.outputs = outputs
        weakref.finalize(self, code.forget).atexit = False

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        if not rows.num_rows:
            return pa.RecordBatch.from_pylist([], schema=self.outputs)
        returned = self._call(rows)
        if isinstance(returned, pa.RecordBatch):
            return returned
        if isinstance(returned, pa.Table):
            columns: Mapping[str, Any] = dict(zip(returned.column_names, returned.columns, strict=True))
        elif isinstance(returned, Mapping):
            columns = returned
        else:
            kind = type(returned).__name__
            raise OutputError(f"{self.name}.predict returned {kind}, expected a dict of columns or a RecordBatch")
        arrays = [self._array(name, values, rows.num_rows) for name, values in columns.items()]
        return assembled(arrays, list(columns))

    def _call(self, rows: pa.RecordBatch) -> Any:
        try:
            return self.instance.predict(rows)
        except Exception as error:
            torch = sys.modules.get("torch")  # code that raises PyTorch's error has imported it
            if torch is None or not isinstance(error, torch.OutOfMemoryError):
                raise
            reason = text(error).partition("\n")[0]
        # raised outside of the block: PyTorch's error holds frames, and these hold the tensors that fill the device
        raise DeviceMemoryError(f"{self.name} has too little memory to score {rows.num_rows} rows at once: {reason}")

    def _array(self, name: str, values: Any, rows: int) -> pa.Array:
        wanted = self.outputs.field(name).type if name in self.outputs.names else None
        try:
            array = _array(values, wanted)
        except UnicodeEncodeError as error:  # a fault of one row; the others are faults of the whole contract
            raise NonsenseError(f"{self.name} returned half of a character in {name!r}: {one_line(error)}") from error
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            reason = one_line(error)
            raise OutputError(f"{self.name} returned values in {name!r} that are not {wanted}: {reason}") from error
        if len(array) != rows:
            raise OutputError(f"{self.name} returned {len(array)} values in {name!r} for {rows} rows")
        return array


def _array(values: Any, wanted: pa.DataType | None) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks()
    if isinstance(values, pa.Array):
        return values  # its type is the class's own choice, and checked later
    if isinstance(values, np.ndarray) and values.ndim == 2 and wanted is not None:
        flat = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
        return flat.cast(wanted)
    return pa.array(values, wanted)


def _instantiate(folder: Path, name: str, device: str) -> tuple[PrivateCode, Any]:
    """The code, and an object of its class. Raises StoreError if there is no such class, ModelError if it fails."""
    code = PrivateCode(folder / CODE, name.partition(":")[0].partition(".")[0])
    try:
        with contained():
            return code, _class(code, name)(folder / FILES, device)
    except ModuleNotFoundError as error:
        code.forget()
        where = code.blame(error)
        if (error.name or "").startswith(code.root):
            raise ModelError(f"{name} failed in {where}") from error
        hint = "a module of your own must be in one package with the class, or be installed"
        raise ModelError(f"{missing_module_error(error, f'{name} ({where})')}; {hint}") from error
    except ScorebeatError:
        code.forget()
        raise
    except Exception as error:  # the model's own code may raise anything
        code.forget()
        raise ModelError(f"{name} failed in {code.blame(error)}") from error


def _class(code: PrivateCode, name: str) -> Callable[..., Any]:
    """The class of that name. Raises StoreError if there is none, or if it is not made with two arguments."""
    module, _, class_name = name.partition(":")
    found = vars(code.module(module))
    wanted: Any = found.get(class_name)
    if not isinstance(wanted, type):
        known = [n for n, v in found.items() if isinstance(v, type) and v.__module__.startswith(code.root)]
        raise StoreError(f"{module} has no class {class_name}.{near(class_name, known)}")
    try:
        inspect_module.signature(wanted).bind(Path(), "cpu")
    except TypeError as error:
        raise StoreError(f"{name} is made with two arguments, __init__(self, files, device): {error}") from None
    except ValueError:  # a class in C has no signature
        pass
    return wanted


def _signature(instance: Any, name: str) -> Signature:
    if not callable(getattr(instance, "predict", None)):
        raise StoreError(f"{name} has no predict(rows)")
    inputs, outputs = (_types(instance, kind, name) for kind in ("inputs", "outputs"))
    fields: list[tuple[str, pa.DataType]] = []
    for column, kind in outputs.items():
        try:
            fields.append((column, type_named(kind)))
        except ModelError as error:
            raise StoreError(f"{name}.outputs[{column!r}]: {error}") from None
    wanted: list[Input] = []
    for column, kind in inputs.items():
        where = f"{name}.inputs[{column!r}]"
        try:
            wanted += named_inputs([f"{column}:{kind}"], pa.float64())
        except StoreError as error:
            raise StoreError(f"{where}: {str(error).removeprefix('--inputs: ')}") from None
        if wanted[-1].trained.dtype:
            raise StoreError(f"{where}: {kind} is a dtype of pandas, but predict() gets Arrow columns")
    return Signature(tuple(wanted), output_schema(fields, (), name))


def _types(instance: Any, kind: str, name: str) -> dict[str, str]:
    found = getattr(instance, kind, None)
    if isinstance(found, Mapping) and found and all(isinstance(t, str) for pair in found.items() for t in pair):
        return dict(found)
    raise StoreError(
        f'{name} has no usable `{kind}`: expected names with their types, such as {kind} = {{"review": "string"}}'
    )
