"""What scikit-learn itself returns for rows, as a notebook would ask it: no way of ours, to compare ours with."""

from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_outlier_detector

from scorebeat.models.arrow_types import is_text
from scorebeat.models.formats.sklearn.columns import reads_text
from scorebeat.models.inputs.own_rows import OwnRows


def own_predict(model: Any, own: OwnRows) -> list[Any]:
    """`predict`, and beside it a classifier's `predict_proba` or an outlier detector's scores; or else `transform`."""
    if not hasattr(model, "predict"):
        return [_dense(model.transform(_fed(model, own)))]
    returned = [_dense(model.predict(_fed(model, own)))]
    if is_outlier_detector(model):
        scores = getattr(model, "score_samples", None) or getattr(model, "decision_function", None)
        return [returned[0], np.asarray(scores(_fed(model, own)))] if scores else returned
    if is_classifier(model) and hasattr(model, "predict_proba"):
        probabilities = model.predict_proba(_fed(model, own))  # made anew: a scaler with copy=False scales in place
        returned += probabilities if isinstance(probabilities, list) else [_dense(probabilities)]
    return returned


def _dense(values: Any) -> Any:
    return values.toarray() if hasattr(values, "toarray") else np.asarray(values)


def _fed(model: Any, own: OwnRows) -> Any:
    """A DataFrame where the model was fitted on one or takes other things than numbers, else a matrix."""
    inputs = own.signature.inputs
    if reads_text(model):
        return own.column(inputs[0].name)
    names = [str(name) for name in getattr(model, "feature_names_in_", ())]
    if own.table is not None and (names or any(is_text(i.type) for i in inputs)):
        return own.frame(names or [i.name for i in inputs])
    return own.matrix()
