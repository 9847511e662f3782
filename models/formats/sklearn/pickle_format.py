"""scikit-learn models in pickle and joblib files, which run code when they are opened: only if that is allowed."""

import json
import shlex
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import joblib
from sklearn.exceptions import InconsistentVersionWarning

from scorebeat.core.errors import ModelError, StoreError
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions, Described, Model, Signature
from scorebeat.models.formats.registry import copy_file
from scorebeat.models.formats.shared import written_by
from scorebeat.models.formats.shared.refusals import error_summary
from scorebeat.models.formats.sklearn import own_predictions, training_values
from scorebeat.models.formats.sklearn.models import SklearnModel, describe, ready
from scorebeat.models.inputs.own_rows import OwnRows
from scorebeat.models.inputs.samples import Known
from scorebeat.models.scoring.containment import contained

NAME = "pickle"
DEVICES = ("cpu",)
READS = frozenset({"inputs", "outputs", "code"})


def take(source: str, draft: Path, add_options: AddOptions) -> str:
    """As `Format.take`. Raises StoreError unless code was allowed; the file is not opened before that."""
    _require_permission(source, add_options)
    return copy_file(source, draft, add_options)


def inspect(path: Path, add_options: AddOptions) -> Described:
    """The inputs and outputs of the model in this file.

    Raises StoreError for a model that cannot be used or may not be opened, ModelError for a damaged file.
    """
    _require_permission(path.name, add_options)
    model, writer = _open(path), written_by.of_pickle(path)
    with written_by.prepend_versions_to_errors(writer):
        found = describe(model, add_options, path.name)
    return replace(found, notes=(*written_by.notes(writer), *found.notes))


def load(artifact: Artifact, device: str) -> Model:
    """The model, ready to score. A person allowed its code when it was added, and its digest is still the same.

    Raises ModelError if the file is damaged, or needs what is not installed here.
    """
    del device
    return ready(_open(artifact.path), artifact)


def known_values(model: Model, signature: Signature) -> Known:
    """As `Format.known_values`: categories of encoders, ranges of scalers, thresholds of trees."""
    return training_values.known_values(cast(SklearnModel, model).model, signature)


def own_predict(artifact: Artifact, own: OwnRows) -> Sequence[Any] | None:
    """As `Format.own_predict`: the estimator's own predict and predict_proba."""
    return own_predictions.own_predict(_open(artifact.path), own)


def _require_permission(source: str, add_options: AddOptions) -> None:
    if NAME in add_options.code:
        return
    target = Path(source).with_suffix(".skops").name
    convert = f"import joblib, skops.io; skops.io.dump(joblib.load({json.dumps(source)}), {json.dumps(target)})"
    raise StoreError(
        f"{Path(source).name} is a pickle, which runs code of its writer's choice when it is opened; it was not "
        f"opened. Convert it where you trust it: python -c {shlex.quote(convert)}. Or add it with --allow-code "
        "pickle: then whoever could write the file can do on every worker what the worker can"
    )


def _open(path: Path) -> Any:
    try:
        with warnings.catch_warnings(), contained():
            warnings.simplefilter("ignore", InconsistentVersionWarning)  # a note has it
            return joblib.load(path)  # also reads plain pickles
    except ModuleNotFoundError as error:
        writer = written_by.of_pickle(path)
        if writer is not None and writer.differs:
            raise ModelError(
                f"{writer}: {path.name} refers to the module {error.name}, which is not there. "
                f"{writer.advice.capitalize()}"
            ) from error
        raise ModelError(
            f"{path.name} refers to the module {error.name}, which cannot be imported here: install the package "
            "that has it, on every worker"
        ) from error
    except Exception as error:  # code that a pickle runs when it is opened may fail in any way
        reason = error_summary(error)
        hint = ". Classes of a script are not in its pickles: write the file with cloudpickle" * ("__main__" in reason)
        message = f"{path.name} cannot be read as a pickle: {reason}{hint}"
        raise ModelError(written_by.prepend_versions(written_by.of_pickle(path), message)) from error
