"""The modules that read models, by format; a format's library is imported at its first use."""

import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from scorebeat.core.errors import ModelError, StoreError, one_line
from scorebeat.core.events import emit
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions, Described, Model, Signature
from scorebeat.models.copying import copy_regular
from scorebeat.models.engines import NATIVE, EngineUnavailable
from scorebeat.models.formats.shared import light_skops
from scorebeat.models.inputs.own_rows import OwnRows
from scorebeat.models.inputs.samples import Known
from scorebeat.models.scoring.containment import contained


class Format(Protocol):
    """The functions of a format's module."""

    NAME: str
    DEVICES: tuple[str, ...]
    READS: frozenset[str]
    """The fields of AddOptions that apply to such a model; any other is refused when a model is added."""

    def take(self, source: str, draft: Path, add_options: AddOptions) -> str:
        """Copy a model's files into the folder `draft`; returns the name in it that `inspect` gets.

        Raises StoreError if they are no such model.
        """
        ...

    def inspect(self, path: Path, add_options: AddOptions) -> Described:
        """The inputs and outputs of the model; `add_options` has what its files do not say.

        Raises StoreError if the model cannot be used, ModelError if its files are damaged.
        """
        ...

    def load(self, artifact: Artifact, device: str) -> Model:
        """The model, ready to score on `device`, `cpu` or `cuda`.

        Raises ModelError if its files are damaged or not trusted.
        """
        ...

    def known_values(self, model: Model, signature: Signature) -> Known:
        """Values that the inputs had in training, as far as the loaded model shows them."""
        ...

    def own_predict(self, artifact: Artifact, own: OwnRows) -> Sequence[Any] | None:
        """What the library itself returns for rows, after opening the file again: arrays of [rows] or [rows, values] in
        the order of the output columns; None if there is no library but the model itself.

        Raises whatever the library raises.
        """
        ...


CLASS = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
"""`module:Class`: a model in Python."""

_MODULES = {
    "skops": "scorebeat.models.formats.sklearn.skops_format",
    "pickle": "scorebeat.models.formats.sklearn.pickle_format",
    "onnx": "scorebeat.models.formats.onnx.onnx_format",
    "torch": "scorebeat.models.formats.torch.torch_format",
    "xgboost": "scorebeat.models.formats.boosters.xgboost_format",
    "lightgbm": "scorebeat.models.formats.boosters.lightgbm_format",
    "mlflow": "scorebeat.models.formats.mlflow.mlflow_format",
    "python": "scorebeat.models.formats.python.python_format",
}
_SUFFIXES = {
    ".skops": "skops",
    ".onnx": "onnx",
    ".pt2": "torch",
    ".ubj": "xgboost",
    ".json": "xgboost",
    ".lgb": "lightgbm",
    ".txt": "lightgbm",
    **dict.fromkeys((".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle"), "pickle"),
}
_SAVED = (
    "a file of torch.save runs code when it is opened, and has no program. Write the model as a .pt2 file: "
    "torch.export.save(torch.export.export(model.eval(), ...), 'model.pt2')"
)
_ADVICE = {
    ".pt": _SAVED,
    ".pth": _SAVED,
    ".ckpt": _SAVED,
    ".py": "a model in Python is named as module:Class, such as linked:Linked for the class Linked in linked.py",
}
"""Advice for files that are no models, but look like one."""
_EXTRAS = {"torch": "torch", "xgboost": "xgboost", "lightgbm": "lightgbm", "mlflow": "mlflow", "pandas": "pandas"}
"""The extra of this project that installs each package."""


def register(suffix: str, module: str) -> None:
    """Read files of this suffix by a module that is a `Format`, whose NAME is the suffix without its dot."""
    _SUFFIXES[suffix] = suffix.removeprefix(".")
    _MODULES[suffix.removeprefix(".")] = module


def format_of(source: str) -> Format:
    """The format of a model file, an MLflow folder or `module:Class`. Raises StoreError for anything else."""
    path = Path(source)
    if path.is_dir():
        if (path / "MLmodel").is_file():
            return format_named("mlflow")
        raise StoreError(
            f"{source} is a folder without an MLmodel file: name a model's file, or an MLflow model folder"
        )
    if not path.is_file():
        if CLASS.fullmatch(source):
            return format_named("python")
        raise StoreError(f"{source} is not there: name a model's file, such as model.skops, or a class, module:Class")
    if advice := _ADVICE.get(path.suffix.lower()):
        raise StoreError(f"{path.name}: {advice}")
    if name := _SUFFIXES.get(path.suffix.lower()):
        return format_named(name)
    raise StoreError(
        f"{path.name}: unknown model format {path.suffix or '(no suffix)'!r}; accepted are "
        f"{', '.join(_SUFFIXES)}, an MLflow model folder, and a Python class, module:Class. "
        "A scikit-learn model is written with: import skops.io; skops.io.dump(model, 'model.skops')"
    )


def load(artifact: Artifact, device: str = "cpu", engine: str = NATIVE, cache: Path | None = None) -> Model:
    """The model of an artifact that `store.open_artifact` verified, scored by the engine that was chosen for it.

    An engine that is unavailable here costs speed only: the model's own library scores then. `cache` keeps machine
    code. Raises ModelError if the model is damaged.
    """
    if artifact.format not in _MODULES:
        raise ModelError(f"model {artifact}: this version of Scorebeat reads no format {artifact.format!r}")
    with contained():
        model = format_named(artifact.format).load(artifact, device if device in artifact.devices else "cpu")
        if engine == NATIVE or cache is None:
            return model
        use = getattr(model, "use_engine", None)
        try:
            if use is None:
                raise EngineUnavailable("this version of Scorebeat has no such engine for it")
            use(engine, cache)
        except EngineUnavailable as error:
            emit("engine.unavailable", model=str(artifact), engine=engine, reason=one_line(error))
        return model


def copy_file(source: str, draft: Path, add_options: AddOptions) -> str:
    """`Format.take` of a format of one file: the copy is called `model` with the file's suffix."""
    del add_options
    name = copy_name(source)
    copy_regular(Path(source), draft / name)
    return name


def copy_name(source: str) -> str:
    """The name in the store of the copy of a model's file."""
    return f"model{Path(source).suffix.lower()}"


def format_named(name: str) -> Format:
    """The format of that name, as model.toml has it. Raises ModelError if its library is not installed."""
    try:
        return cast(Format, importlib.import_module(_MODULES[name]))
    except ModuleNotFoundError as error:
        raise missing_module_error(error, f"a model of the format {name}") from error


def preload(name: str) -> None:
    """Import the format's library, but no model. Raises ModelError if it is not installed."""
    format_named(name)
    if name == "skops":
        light_skops.skops_io()  # all of scikit-learn


def missing_module_error(error: ModuleNotFoundError, what: str) -> ModelError:
    """The error for a missing module that a model needs; its package may have another name."""
    module = (error.name or "?").partition(".")[0]
    if extra := _EXTRAS.get(module):
        return ModelError(
            f"{what} needs the package {module}, which is not installed here: pip install 'scorebeat[{extra}]'"
        )
    return ModelError(
        f"{what} needs the module {module}, which cannot be imported here: install the package that has it"
    )
