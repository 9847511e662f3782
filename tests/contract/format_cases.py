"""One model of every kind that the formats must serve, each with a plain loop that it must equal."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import skops.io
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from tests.contract import booster_files, mlflow_files, python_files, sklearn_files, torch_files
from tests.contract.booster_files import BINARY
from tests.contract.onnx_files import embedding, many_inputs, tensor_classifier, zipmap_classifier
from tests.contract.sklearn_files import Rows, as_table, as_text

IRIS = load_iris()
X: NDArray[np.float64] = IRIS.data
SPECIES: NDArray[np.str_] = IRIS.target_names[IRIS.target]
NUMBERS: NDArray[np.int64] = IRIS.target
FOUR = ("a", "b", "c", "d")
PROBABILITIES = ["label", "setosa", "versicolor", "virginica"]
COUNTED = ["label", "class_0", "class_1", "class_2"]
TWO = ["label", "class_0", "class_1"]
NAMES = torch_files.CLASSES
OUTPUTS = ["output_0", "output_1", "output_2"]
Loop = Callable[[NDArray[np.float64]], list[Any]]


def as_array(rows: Rows) -> pa.RecordBatch:
    """One array column, as a query returns `values`."""
    return pa.RecordBatch.from_pydict({"values": pa.array(rows, pa.list_(pa.float64()))})


@dataclass(frozen=True)
class Case:
    """A model in some format, and the result of a plain loop over single rows."""

    write: Callable[[Path], tuple[Path, Loop]]
    outputs: list[str]
    inputs: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    needs: str = ""
    """The package without which the case is skipped."""
    code: frozenset[str] = frozenset()
    """Formats that may run code."""
    query: Callable[[Rows], pa.RecordBatch] = as_array
    """Some of the measurements, as a query returns them."""


def skops_of(model: Any, y: Any) -> Callable[[Path], tuple[Path, Loop]]:
    def write(folder: Path) -> tuple[Path, Loop]:
        fitted = model.fit(X.copy(), y)
        skops.io.dump(fitted, folder / "m.skops")
        return folder / "m.skops", lambda row: by_hand(fitted, row)

    return write


def by_hand(model: Any, row: NDArray[np.float64]) -> list[Any]:
    labels: list[Any] = np.atleast_1d(np.squeeze(model.predict(row.copy()))).tolist()
    more: list[Any] = model.predict_proba(row.copy())[0].tolist() if hasattr(model, "predict_proba") else []
    scores: list[Any] = model.score_samples(row.copy()).tolist() if hasattr(model, "score_samples") else []
    return labels + more + scores


def torch_classes(names: tuple[str, ...], *, ends_as_probabilities: bool) -> Case:
    write = torch_files.scores(names, ends_as_probabilities=ends_as_probabilities)
    return Case(write, ["label", *names], classes=names, needs="torch")


def mlflow_of(write: Callable[[Path], tuple[Path, Loop]], outputs: list[str], inputs: tuple[str, ...] = ()) -> Case:
    return Case(write, outputs, inputs, needs="mlflow", code=frozenset({"mlflow"}))


PICKLE = frozenset({"pickle"})
LOGISTIC = make_pipeline(StandardScaler(), LogisticRegression())
CASES = {
    "skops classifier": Case(skops_of(LOGISTIC, SPECIES), PROBABILITIES),
    "skops named inputs": Case(skops_of(LOGISTIC, SPECIES), PROBABILITIES, FOUR),
    "skops integer classes": Case(skops_of(RandomForestClassifier(5, random_state=0), NUMBERS), COUNTED),
    "skops two classes": Case(
        skops_of(GradientBoostingClassifier(n_estimators=5), SPECIES == "setosa"),
        ["label", "class_false", "class_true"],
    ),
    "skops boosting": Case(skops_of(HistGradientBoostingClassifier(max_iter=3), SPECIES), PROBABILITIES),
    "skops calibrated": Case(
        skops_of(make_pipeline(StandardScaler(), CalibratedClassifierCV(SVC(), ensemble=False)), SPECIES),
        PROBABILITIES,
    ),
    "skops neighbours": Case(skops_of(KNeighborsClassifier(4), SPECIES), PROBABILITIES),
    "skops in-place scaler": Case(
        skops_of(make_pipeline(StandardScaler(copy=False), KNeighborsClassifier()), SPECIES),
        PROBABILITIES,
        FOUR,
    ),
    "skops imputer": Case(
        skops_of(make_pipeline(SimpleImputer(), LogisticRegression(max_iter=1000)), SPECIES), PROBABILITIES
    ),
    "skops threshold": Case(  # predict() is not the likeliest class
        skops_of(FixedThresholdClassifier(LOGISTIC, threshold=0.6), SPECIES == "versicolor"),
        ["label", "class_false", "class_true"],
    ),
    "skops search": Case(skops_of(GridSearchCV(LOGISTIC, {"logisticregression__C": [1.0]}), SPECIES), PROBABILITIES),
    "skops without probabilities": Case(skops_of(LinearSVC(), SPECIES), ["label"]),
    "skops regressor": Case(skops_of(LinearRegression(), X[:, 0]), ["value"]),
    "skops forest regressor": Case(skops_of(RandomForestRegressor(5, random_state=0), X[:, 0]), ["value"]),
    "skops multi-output": Case(skops_of(LinearRegression(), X[:, :2]), ["value_0", "value_1"]),
    "skops clusterer": Case(skops_of(KMeans(3, n_init=1, random_state=0), None), ["label"]),
    "skops outliers": Case(skops_of(IsolationForest(n_estimators=5, random_state=0), None), ["label", "score"]),
    "skops columns by name": Case(sklearn_files.COLUMNS_CLASSIFIER, PROBABILITIES, query=as_table),
    "skops columns, multi-output": Case(sklearn_files.COLUMNS_REGRESSOR, ["value_0", "value_1"], query=as_table),
    "skops columns, boosting": Case(sklearn_files.boosted_categories, PROBABILITIES, query=as_table),
    "skops text": Case(sklearn_files.TEXT_CLASSIFIER, PROBABILITIES, query=as_text),
    "skops text regressor": Case(sklearn_files.TEXT_REGRESSOR, ["value"], query=as_text),
    "joblib": Case(sklearn_files.JOBLIB, PROBABILITIES, FOUR, code=PICKLE),
    "pickle": Case(
        sklearn_files.pickled(lambda model, path: path.write_bytes(pickle.dumps(model)), "m.pkl"),
        PROBABILITIES,
        code=PICKLE,
    ),
    "mlflow columns": mlflow_of(mlflow_files.named_columns, ["label"]),
    "mlflow tensor": mlflow_of(mlflow_files.tensors, ["value_0", "value_1"]),
    "mlflow tensor, named inputs": mlflow_of(mlflow_files.tensors, ["value_0", "value_1"], FOUR),
    "mlflow without signature": mlflow_of(mlflow_files.unsigned, ["value"], FOUR),
    "mlflow own code, imputer": mlflow_of(mlflow_files.own_code, ["area", "size"]),
    "onnx tensor": Case(tensor_classifier, PROBABILITIES),
    "onnx tensor, named inputs": Case(tensor_classifier, PROBABILITIES, FOUR),
    "onnx ZipMap": Case(zipmap_classifier, PROBABILITIES),
    "onnx many inputs": Case(many_inputs, ["label", *(f"probabilities_{n}" for n in range(3))]),
    "onnx embedding": Case(embedding, ["embedding"]),
    "python class": Case(python_files.flowers, PROBABILITIES),
    "torch value": Case(torch_files.lone(1), ["value"], needs="torch"),
    "torch value without a second axis": Case(torch_files.lone(0), ["value"], needs="torch"),
    "torch float64, named inputs": Case(torch_files.lone(3, "float64"), OUTPUTS, FOUR, needs="torch"),
    "torch embedding": Case(torch_files.lone(torch_files.WIDTH), ["embedding"], needs="torch"),
    "torch many inputs": Case(torch_files.many, ["sum", "pairs_0", "pairs_1"], needs="torch"),
    "torch logits": torch_classes(NAMES, ends_as_probabilities=False),
    "torch probabilities": torch_classes(NAMES, ends_as_probabilities=True),
    "torch logit": torch_classes(("no", "yes"), ends_as_probabilities=False),
    "torch probability": torch_classes(("no", "yes"), ends_as_probabilities=True),
    "xgboost two classes": Case(booster_files.xgboost("XGBClassifier", BINARY), TWO, needs="xgboost"),
    "xgboost .json": Case(booster_files.xgboost("XGBClassifier", NUMBERS, ".json"), COUNTED, needs="xgboost"),
    "xgboost softmax, named classes": Case(
        booster_files.xgboost("XGBClassifier", NUMBERS, classes=NAMES, objective="multi:softmax"),
        PROBABILITIES,
        FOUR,
        NAMES,
        needs="xgboost",
    ),
    "xgboost stopped early": Case(booster_files.xgboost_stopped, TWO, needs="xgboost"),
    "xgboost regressor": Case(booster_files.xgboost("XGBRegressor", X[:, 0]), ["value"], needs="xgboost"),
    "xgboost multi-output": Case(
        booster_files.xgboost("XGBRegressor", X[:, :2]), ["value_0", "value_1"], needs="xgboost"
    ),
    "xgboost linear": Case(
        booster_files.xgboost("XGBRegressor", X[:, 0], booster="gblinear", max_depth=None), ["value"], needs="xgboost"
    ),
    "xgboost ranker": Case(booster_files.xgboost("XGBRanker", BINARY), ["value"], needs="xgboost"),
    "lightgbm two classes": Case(booster_files.lightgbm("LGBMClassifier", BINARY), TWO, needs="lightgbm"),
    "lightgbm .txt": Case(booster_files.lightgbm("LGBMClassifier", NUMBERS, ".txt"), COUNTED, needs="lightgbm"),
    "lightgbm one against all, named classes": Case(
        booster_files.lightgbm("LGBMClassifier", NUMBERS, classes=NAMES, objective="multiclassova"),
        PROBABILITIES,
        FOUR,
        NAMES,
        needs="lightgbm",
    ),
    "lightgbm regressor": Case(booster_files.lightgbm("LGBMRegressor", X[:, 0]), ["value"], needs="lightgbm"),
    "lightgbm ranker": Case(booster_files.lightgbm("LGBMRanker", BINARY), ["value"], needs="lightgbm"),
}
