"""scikit-learn models in .skops files, which are read without running code."""

import importlib.util
import warnings
from collections.abc import Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from sklearn.exceptions import InconsistentVersionWarning

from scorebeat.core.errors import ModelError, StoreError
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions, Described, Model, Signature
from scorebeat.models.formats.registry import copy_file, missing_module_error
from scorebeat.models.formats.shared import written_by
from scorebeat.models.formats.shared.light_skops import skops_io
from scorebeat.models.formats.sklearn import own_predictions, training_values
from scorebeat.models.formats.sklearn.models import SklearnModel, describe, ready
from scorebeat.models.formats.sklearn.trusted import TRUSTED
from scorebeat.models.inputs.own_rows import OwnRows
from scorebeat.models.inputs.samples import Known

NAME = "skops"
DEVICES = ("cpu",)
READS = frozenset({"inputs", "outputs", "trusted"})
_ALLOWED = "trusted"
"""The format's option with the types that a person trusts beyond those of `trusted.py`."""


def take(source: str, draft: Path, add_options: AddOptions) -> str:
    """As `Format.take`. Raises StoreError for a trusted type that the file does not hold, or that needs no trust."""
    name = copy_file(source, draft, add_options)
    if add_options.trusted and (unneeded := sorted(add_options.trusted - _unknown(draft / name))):
        raise StoreError(
            f"{Path(source).name} needs no trust in {', '.join(unneeded)}: it holds no such type, or one that is "
            "trusted anyway. Leave that --trust out"
        )
    return name


def inspect(path: Path, add_options: AddOptions) -> Described:
    """The inputs and outputs of the model in this file.

    Raises StoreError for a model that cannot be used, ModelError for a file that cannot be read.
    """
    model, writer = _open(path, add_options.trusted), written_by.of_skops(path)
    with written_by.prepend_versions_to_errors(writer):
        found = describe(model, add_options, path.name)
    allowed = sorted(_unknown(path) & add_options.trusted)
    notes = (*written_by.notes(writer), *found.notes)
    return replace(found, options={**found.options, **({_ALLOWED: allowed} if allowed else {})}, notes=notes)


def load(artifact: Artifact, device: str) -> Model:
    """The model, ready to score. Raises ModelError if the file is damaged or not trusted."""
    del device
    return ready(_open(artifact.path, frozenset(artifact.options.get(_ALLOWED, ()))), artifact)


def known_values(model: Model, signature: Signature) -> Known:
    """As `Format.known_values`: categories of encoders, ranges of scalers, thresholds of trees."""
    return training_values.known_values(cast(SklearnModel, model).model, signature)


def own_predict(artifact: Artifact, own: OwnRows) -> Sequence[Any] | None:
    """As `Format.own_predict`: the estimator's own predict and predict_proba."""
    return own_predictions.own_predict(_open(artifact.path, frozenset(artifact.options.get(_ALLOWED, ()))), own)


def _open(path: Path, allowed: Set[str]) -> Any:
    unknown = _unknown(path)
    writer = written_by.of_skops(path)
    missing_types = sorted(name for name in unknown if not _is_installed(name))
    if missing_types and writer is not None and writer.differs:
        raise ModelError(
            f"{writer}: {path.name} holds types that the installed version does not have: {', '.join(missing_types)}. "
            f"{writer.advice.capitalize()}"
        )
    if refused := sorted(unknown - allowed):
        raise ModelError(
            f"{path.name} holds types that are not trusted, because they could run code: {', '.join(refused)}. If "
            f"you know them and who wrote the file, add it with {' '.join(f'--trust {name}' for name in refused)}; "
            "else keep to scikit-learn's own estimators and functions, or export the model to ONNX"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InconsistentVersionWarning)  # a note has it
            return skops_io().load(path, trusted=sorted(unknown | TRUSTED))
    except ModuleNotFoundError as error:
        raise missing_module_error(error, path.name) from error
    except Exception as error:  # a damaged file may fail in any of the libraries that read it
        raise _unreadable(path, error) from error


def _is_installed(name: str) -> bool:
    """Whether the package of a type can be imported; scikit-learn's own compiled parts were once called `_loss`."""
    try:
        return importlib.util.find_spec(name.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False


def _unknown(path: Path) -> set[str]:
    """The types in the file that neither skops nor this project trusts."""
    try:
        return set(skops_io().get_untrusted_types(file=path)) - TRUSTED
    except ModuleNotFoundError as error:
        raise missing_module_error(error, path.name) from error
    except Exception as error:  # as above
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ModelError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    message = (
        f"{path.name} cannot be read as a .skops file: {reason}. Write it again with skops.io.dump, under the "
        "scikit-learn version that is installed here"
    )
    return ModelError(written_by.prepend_versions(written_by.of_skops(path), message))
