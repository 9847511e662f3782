"""XGBoost models in .ubj and .json files: what they want and give, and how they score Arrow columns on one thread."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xgboost
from sklearn.utils.extmath import softmax

from scorebeat.core.errors import ModelError, StoreError
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import Described, Given, Model
from scorebeat.models.formats.boosters import Booster, describe, model_of, try_to_open
from scorebeat.models.matrix import Matrix
from scorebeat.models.registry import copy_file

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


def inspect(path: Path, given: Given) -> Described:
    """What the model in this file wants and gives: float32 inputs, named as in training, else as given, else one
    array called `features`.

    Raises StoreError for a model that cannot be used, ModelError for a file that cannot be read.
    """
    try_to_open(_OPENING, path, f"XGBoost {xgboost.__version__}")
    model = _open(path)
    if coded := [str(n) for n, t in enumerate(model.feature_types or []) if t == "c"]:
        names = [model.feature_names[int(n)] for n in coded] if model.feature_names else coded
        raise StoreError(
            f"{path.name} was trained on categories ({', '.join(names)}), whose codes no query gives: "
            "encode them in training, or wrap the model in a Python class"
        )
    return describe(_booster(model), given, path.name)


def load(artifact: Artifact, device: str) -> Model:
    """The model, ready to score. Raises ModelError when the file is damaged."""
    del device
    return model_of(_booster(_open(artifact.path)), artifact)


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

    def score(x: Matrix) -> Matrix:
        if linear:
            data = xgboost.DMatrix(x, nthread=1)
            found: Matrix = model.predict(data, output_margin=margin, iteration_range=trees, validate_features=False)
        else:
            kind = "margin" if margin else "value"
            found = model.inplace_predict(x, iteration_range=trees, predict_type=kind, validate_features=False)
        return softmax(found) if margin else found

    # XGBoost promises it of inplace_predict alone
    return Booster(
        model.feature_names or [], model.num_features(), classes, pa.float32(), np.float32, score, not linear
    )
