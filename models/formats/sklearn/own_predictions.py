"""scikit-learn's own predictions for rows, as in a notebook: without our code, to compare our predictions with."""

from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_outlier_detector

from scorebeat.models.arrow_types import is_text
from scorebeat.models.formats.sklearn.columns import reads_text
from scorebeat.models.inputs.own_rows import OwnRows


def own_predict(model: Any, own: OwnRows) -> list[Any]:
    """`predict`, then a classifier's `predict_proba` or an outlier detector's scores; else `transform`."""
    if not hasattr(model, "predict"):
        return [_dense(model.transform(_input(model, own)))]
    returned = [_dense(model.predict(_input(model, own)))]
    if is_outlier_detector(model):
        scores = getattr(model, "score_samples", None) or getattr(model, "decision_function", None)
        return [returned[0], np.asarray(scores(_input(model, own)))] if scores else returned
    if is_classifier(model) and hasattr(model, "predict_proba"):
        # a new input, because a scaler with copy=False scales it in place
        probabilities = model.predict_proba(_input(model, own))
        returned += probabilities if isinstance(probabilities, list) else [_dense(probabilities)]
    return returned


def _dense(values: Any) -> Any:
    return values.toarray() if hasattr(values, "toarray") else np.asarray(values)


def _input(model: Any, own: OwnRows) -> Any:
    """A DataFrame if the model was fitted on one or takes more than numbers, else a matrix."""
    inputs = own.signature.inputs
    if reads_text(model):
        return own.column(inputs[0].name)
    names = [str(name) for name in getattr(model, "feature_names_in_", ())]
    if own.table is not None and (names or any(is_text(i.type) for i in inputs)):
        return own.frame(names or [i.name for i in inputs])
    return own.matrix()
