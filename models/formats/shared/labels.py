"""A classifier's classes as Arrow values: column names, labels, and the most probable class of each row."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scorebeat.core.errors import OutputError, StoreError, one_line
from scorebeat.models.inputs.matrix import Matrix

# scikit-learn's classifiers whose predict() picks the class of the highest probability, or of the highest
# score of which the probability is a monotone function, so that the two agree unless rounding ties them
# (read in the source of scikit-learn 1.9). Not among them are, for example, SVC, whose probabilities come from
# another model, and the nearest neighbours, which break ties in another way.
_BY_PROBABILITY = frozenset(
    {
        "BaggingClassifier",
        "BernoulliNB",
        "CalibratedClassifierCV",
        "CategoricalNB",
        "ComplementNB",
        "DecisionTreeClassifier",
        "ExtraTreeClassifier",
        "ExtraTreesClassifier",
        "GaussianNB",
        "GradientBoostingClassifier",
        "HistGradientBoostingClassifier",
        "LinearDiscriminantAnalysis",
        "LogisticRegression",
        "LogisticRegressionCV",
        "MLPClassifier",
        "MultinomialNB",
        "QuadraticDiscriminantAnalysis",
        "RandomForestClassifier",
    }
)
_NEAR = 1e-6
"""Probabilities closer than this may be in another order than the scores behind them."""


def label_follows_probability(model: Any) -> bool:
    """Whether the label follows from the probabilities, so that predict() need not be called as well."""
    while predicts_as_written(model):
        if hasattr(model, "steps"):
            model = model.steps[-1][1]
        elif hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        else:
            return type(model).__name__ in _BY_PROBABILITY
    return False


def predicts_as_written(model: Any) -> bool:
    """Whether its methods are scikit-learn's own: the class is no subclass, and the object has no replaced method."""
    own = vars(model) if hasattr(model, "__dict__") else {}
    return type(model).__module__.startswith("sklearn.") and not {"predict", "predict_proba", "transform"} & {*own}


def class_columns(classes: NDArray[Any]) -> list[str]:
    """Column names of the classes: text as it is, other values as `class_0`, `class_true`."""
    return [c if isinstance(c, str) else f"class_{str(c).lower().removesuffix('.0')}" for c in classes.tolist()]


class Labels:
    """The classes of one classifier, in the order of `classes_`."""

    def __init__(self, classes: Any) -> None:
        """Raises StoreError for several outputs at once, and for classes that no column type holds."""
        if isinstance(classes, list) or np.ndim(classes) != 1:
            raise StoreError("a classifier of several outputs at once cannot be used: add one model an output")
        kinds = {"b": pa.bool_(), "i": pa.int64(), "u": pa.int64(), "f": pa.float64(), "U": pa.string()}
        if classes.dtype.kind == "O" and all(isinstance(c, str) for c in classes.tolist()):
            self.type = pa.string()
        elif classes.dtype.kind in kinds:
            self.type = kinds[classes.dtype.kind]
        else:
            raise StoreError(f"classes of type {classes.dtype} cannot be stored: use text, integers or booleans")
        self.values = pa.array(classes.tolist(), self.type)

    def most_probable(self, probabilities: Matrix, labels_of: Callable[[NDArray[np.intp]], Any]) -> pa.Array:
        """The label of each row of [rows, classes]; `labels_of(positions)` returns those of near ties."""
        first, gap = _top(probabilities)
        labels = self.values.take(pa.array(first))
        near = np.flatnonzero(~(gap > _NEAR))  # NaN is a near tie, too
        if not len(near):
            return labels
        mask = np.zeros(len(first), dtype=bool)
        mask[near] = True
        return pa.compute.replace_with_mask(labels, mask, self.named(labels_of(near)))

    def named(self, predicted: Any) -> pa.Array:
        """The labels that predict() returned, in this classifier's label type, in memory of their own.

        Raises OutputError for several labels a row, and for values that are no such labels.
        """
        labels = np.array(predicted)
        if labels.ndim == 2 and labels.shape[1] == 1:  # CatBoost's, of several classes
            labels = labels[:, 0]
        if labels.ndim != 1:
            raise OutputError(
                f"the model returned labels of the shape {list(labels.shape)}, expected one a row. If it has several "
                "labels, add its file again: each of them becomes a column"
            )
        try:
            return pa.array(labels, self.type)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:  # UnicodeError is a ValueError
            raise OutputError(f"the model returned labels that are not {self.type}: {one_line(error)}") from error


def _top(probabilities: Matrix) -> tuple[NDArray[np.intp], Matrix]:
    """Of [rows, classes]: the column of each row's (first) highest value, and its distance from the next one."""
    best = probabilities[:, 0].copy()
    first = np.zeros(len(best), dtype=np.intp)
    second = np.full(len(best), -np.inf)
    # one pass a class over contiguous columns takes as long as argmax alone, and also yields the distance
    for at in range(1, probabilities.shape[1]):
        column = probabilities[:, at]
        np.maximum(second, np.minimum(best, column), out=second)
        first[column > best] = at
        np.maximum(best, column, out=best)
    return first, best - second
