"""One model of every kind that the formats must serve, each with a plain loop that it must equal."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
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

from tests.contract.onnx_files import embedding, many_inputs, tensor_classifier, zipmap_classifier

IRIS = load_iris()
X: NDArray[np.float64] = IRIS.data
SPECIES: NDArray[np.str_] = IRIS.target_names[IRIS.target]
NUMBERS: NDArray[np.int64] = IRIS.target
FOUR = ("a", "b", "c", "d")
PROBABILITIES = ["label", "setosa", "versicolor", "virginica"]
COUNTED = ["label", "class_0", "class_1", "class_2"]
Loop = Callable[[NDArray[np.float64]], list[Any]]


@dataclass(frozen=True)
class Case:
    """A model in some format, and what a plain loop over single rows gives."""

    write: Callable[[Path], tuple[Path, Loop]]
    outputs: list[str]
    inputs: tuple[str, ...] = ()


def skops_of(model: Any, y: Any) -> Callable[[Path], tuple[Path, Loop]]:
    def write(folder: Path) -> tuple[Path, Loop]:
        fitted = model.fit(X.copy(), y)
        skops.io.dump(fitted, folder / "m.skops")
        return folder / "m.skops", lambda row: by_hand(fitted, row)

    return write


def by_hand(model: Any, row: NDArray[np.float64]) -> list[Any]:
    labels: list[Any] = np.atleast_1d(np.squeeze(model.predict(row.copy()))).tolist()
    return labels + (model.predict_proba(row.copy())[0].tolist() if hasattr(model, "predict_proba") else [])


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
    "skops outliers": Case(skops_of(IsolationForest(n_estimators=5, random_state=0), None), ["label"]),
    "onnx tensor": Case(tensor_classifier, PROBABILITIES),
    "onnx tensor, named inputs": Case(tensor_classifier, PROBABILITIES, FOUR),
    "onnx ZipMap": Case(zipmap_classifier, PROBABILITIES),
    "onnx many inputs": Case(many_inputs, ["label", *(f"probabilities_{n}" for n in range(3))]),
    "onnx embedding": Case(embedding, ["embedding"]),
}
