"""Which module reads which model file; a format's library is imported when it is first needed."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

from core.errors import StoreError
from models.artifact import Artifact
from models.contract import Model, Signature


class Format(Protocol):
    """What a format's module offers."""

    NAME: str
    DEVICES: tuple[str, ...]

    def inspect(self, path: Path, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> Signature:
        """The file's signature; `inputs` and `outputs` name what the file does not.

        Raises StoreError when the model cannot be used, ModelError when the file is damaged.
        """
        ...

    def load(self, path: Path, signature: Signature) -> Model:
        """The model, ready to score. Raises ModelError when the file is damaged or not trusted."""
        ...


_BY_SUFFIX = {".skops": "models.sklearn_format", ".onnx": "models.onnx_format"}
_PICKLES = frozenset({".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle"})
_CONVERT = "import skops.io; skops.io.dump(model, 'model.skops')"


def register(suffix: str, module: str) -> None:
    """Read files of this suffix by a module that is a `Format`."""
    _BY_SUFFIX[suffix] = module


def format_of(path: Path) -> Format:
    """The format of a file, by its suffix. Raises StoreError for one that is not accepted."""
    suffix = path.suffix.lower()
    if module := _BY_SUFFIX.get(suffix):
        return cast(Format, importlib.import_module(module))
    accepted = f"accepted are {', '.join(_BY_SUFFIX)}"
    if suffix in _PICKLES:
        raise StoreError(f"{path.name} is a pickle, which runs code when it is opened; {accepted}. Convert: {_CONVERT}")
    raise StoreError(
        f"{path.name}: unknown model format {suffix or '(no suffix)'!r}; {accepted}. "
        f"A scikit-learn model is written with: {_CONVERT}"
    )


def load(artifact: Artifact) -> Model:
    """The model of an artifact that `store.open_artifact` verified. Raises ModelError if it is damaged."""
    return format_of(artifact.path).load(artifact.path, artifact.signature)
