"""XGBoost models in .ubj and .json files: their inputs and outputs, and scoring of Arrow columns on one thread."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xgboost
from sklearn.utils.extmath import softmax

from scorebeat.core.errors import ModelError
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions, Described, Model, Signature
from scorebeat.models.formats.boosters.boosters import Booster, describe, model_of, own_columns, try_to_open
from scorebeat.models.formats.registry import copy_file
from scorebeat.models.formats.shared import written_by
from scorebeat.models.formats.shared.booster_columns import trained_columns
from scorebeat.models.inputs.matrix import Matrix
from scorebeat.models.inputs.own_rows import OwnRows
from scorebeat.models.inputs.samples import NOTHING_KNOWN, Known

NAME = "xgboost"
DEVICES = ("cpu",)
READS = frozenset({"inputs", "outputs", "classes"})
take = copy_file
_OPENING = """
import sys, numpy, xgboost
try:
    one = xgboost.Booster(model_file=sys.argv[1])
    one.predict(xgboost.DMatrix(numpy.zeros((1, one.num_features()))), validate_features=False)
except Exception as error:
    print(str(error).partition("\\n")[0])
    sys.exit(1)
"""


def inspect(path: Path, add_options: AddOptions) -> Described:
    """The inputs and outputs of the model in this file. Inputs are float32; their names are those of training, else
    those of --inputs, else there is one array called `features`.

    Raises StoreError for a model that cannot be used, ModelError for a file that cannot be read.
    """
    writer = written_by.of_xgboost(path, xgboost.__version__)
    try:
        try_to_open(_OPENING, path, f"XGBoost {xgboost.__version__}")
    except ModelError as error:
        raise ModelError(written_by.prepend_versions(writer, str(error))) from error
    found = describe(_booster(_open(path)), add_options, path.name)
    is_newer = writer is not None and writer.is_newer  # XGBoost promises to read older files
    return replace(found, notes=(*(written_by.notes(writer) if is_newer else ()), *found.notes))


def load(artifact: Artifact, device: str) -> Model:
    """The model, ready to score. Raises ModelError if the file is damaged."""
    del device
    return model_of(_booster(_open(artifact.path)), artifact)


def known_values(model: Model, signature: Signature) -> Known:
    """As `Format.known_values`: none, because trees take any number."""
    del model, signature
    return NOTHING_KNOWN


def own_predict(artifact: Artifact, own: OwnRows) -> Sequence[Any] | None:
    """As `Format.own_predict`: Booster.predict of a DMatrix, with the names and categories of training if there are
    any. After early stopping it uses the trees up to the best one, as XGBoost's own classifier does."""
    model = _open(artifact.path)
    learner = json.loads(model.save_config())["learner"]
    best = model.attr("best_iteration") if learner["gradient_booster"]["name"] != "gblinear" else None
    is_named = own.table is not None and model.feature_names
    rows = own.with_categories().frame(model.feature_names) if is_named else own.matrix()
    data = xgboost.DMatrix(rows, enable_categorical=True)
    found = model.predict(data, iteration_range=(0, int(best) + 1 if best else 0), validate_features=bool(is_named))
    return own_columns(_booster(model), found, artifact)


def _open(path: Path) -> Any:
    try:
        return xgboost.Booster(params={"nthread": 1}, model_file=path)  # a worker process has one core
    except xgboost.core.XGBoostError as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"{path.name} cannot be read by XGBoost {xgboost.__version__}: {reason}") from error


def _booster(model: Any) -> Booster:
    learner = json.loads(model.save_config())["learner"]
    objective, parameters = learner["objective"]["name"], learner["learner_model_param"]
    classes = int(parameters["num_class"])
    if objective in ("binary:logistic", "binary:hinge") and int(parameters.get("num_target", 1)) == 1:
        classes = 2
    linear = learner["gradient_booster"]["name"] == "gblinear"
    best = None if linear else model.attr("best_iteration")
    trees = (0, 0) if best is None else (0, int(best) + 1)  # as XGBClassifier and XGBRegressor do
    margin = objective == "multi:softmax"

    def score(x: Any) -> Matrix:
        if linear:
            data = xgboost.DMatrix(x, nthread=1)
            found: Matrix = model.predict(data, output_margin=margin, iteration_range=trees, validate_features=False)
        else:
            kind = "margin" if margin else "value"
            found = model.inplace_predict(x, iteration_range=trees, predict_type=kind, validate_features=False)
        return softmax(found) if margin else found

    # XGBoost promises thread safety for inplace_predict only
    return Booster(trained_columns(model), model.num_features(), classes, pa.float32(), np.float32, score, not linear)
