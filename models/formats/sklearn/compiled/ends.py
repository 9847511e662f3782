"""The linear models at the end of a pipeline: their weights, and copies that take scores instead of features."""

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import linear_model, naive_bayes, svm
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.multiclass import OneVsRestClassifier

from scorebeat.models.formats.shared.labels import predicts_as_written
from scorebeat.models.formats.sklearn.compiled.unfit import Unfit

_LINEAR = [
    "ElasticNet",
    "ElasticNetCV",
    "HuberRegressor",
    "Lasso",
    "LassoCV",
    "LinearRegression",
    "LogisticRegression",
    "LogisticRegressionCV",
    "PassiveAggressiveClassifier",
    "PassiveAggressiveRegressor",
    "Perceptron",
    "Ridge",
    "RidgeCV",
    "RidgeClassifier",
    "RidgeClassifierCV",
    "SGDClassifier",
    "SGDRegressor",
]
_WEIGHTS = {
    # a later version of scikit-learn may leave one out
    **{getattr(linear_model, name): "coef_" for name in _LINEAR if hasattr(linear_model, name)},
    svm.LinearSVC: "coef_",
    svm.LinearSVR: "coef_",
    naive_bayes.MultinomialNB: "feature_log_prob_",
    naive_bayes.ComplementNB: "feature_log_prob_",
}
"""Models that multiply their features by weights, and only use the products; the attribute with the weights."""
_SHOW_TIES = ("decision_function", "predict_proba")
"""Methods by which a classifier shows how near its classes are: rounding decides between equal ones."""
Matrix = NDArray[np.float64]


class LinearEnd:
    """A linear model, or several in one that calibrates or combines them."""

    def __init__(self, model: Any) -> None:
        """Raises Unfit for any other model."""
        self._weights: list[Matrix] = []
        self._takers: list[tuple[Any, str, int]] = []
        """The copies of linear models, the attribute with their weights, and their number of dimensions."""
        self._around: list[Any] = []
        self.model = self._taking_scores(model)
        """As the model itself, for [rows, scores]: its own code goes on from the products."""
        if hasattr(model, "classes_") and not any(hasattr(model, name) for name in _SHOW_TIES):
            raise Unfit(f"its {type(model).__name__} has neither {' nor '.join(_SHOW_TIES)}")
        self.weights = np.concatenate(self._weights, axis=1)
        """Of [features, scores]."""
        scores, first = np.eye(self.weights.shape[1]), 0
        for (taker, attribute, dimensions), own in zip(self._takers, self._weights, strict=True):
            chosen = scores[first : first + own.shape[1]]
            setattr(taker, attribute, chosen[0] if dimensions == 1 else chosen)
            first += own.shape[1]
        for part in (*self._around, *(taker for taker, _, _ in self._takers)):
            if "n_features_in_" in vars(part):
                part.n_features_in_ = len(scores)

    def _taking_scores(self, model: Any) -> Any:
        while predicts_as_written(model) and hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        kind = type(model)
        if not predicts_as_written(model) or hasattr(model, "feature_names_in_"):
            raise Unfit(f"{kind.__name__} is not scikit-learn's own, or was fitted on named columns")
        made = copy.copy(model)
        if kind in _WEIGHTS:
            weights = getattr(model, _WEIGHTS[kind])
            if not isinstance(weights, np.ndarray) or weights.dtype != np.float64:
                raise Unfit(f"the weights of its {kind.__name__} are not float64")
            self._weights.append(np.atleast_2d(weights).T)
            self._takers.append((made, _WEIGHTS[kind], weights.ndim))
            return made
        self._around.append(made)
        if kind is CalibratedClassifierCV:
            if model.method == "isotonic":
                raise Unfit("isotonic calibration has steps, at which rounding shows")
            made.calibrated_classifiers_ = [copy.copy(each) for each in model.calibrated_classifiers_]
            for each in made.calibrated_classifiers_:
                each.estimator = self._taking_scores(each.estimator)
        elif kind is OneVsRestClassifier:
            made.estimators_ = [self._taking_scores(each) for each in model.estimators_]
        elif kind is FrozenEstimator:
            made.estimator = self._taking_scores(model.estimator)
        else:
            raise Unfit(f"its {kind.__name__} is no linear model")
        return made
