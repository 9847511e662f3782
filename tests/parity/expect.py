"""The predictions of a library's estimator for a DataFrame, in the columns that a reader of predictions gets."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.parity.case import Expected

Expectation = Callable[[Any, Any], Expected]
"""From a fitted model and what its predict() takes."""


def probabilities(*names: str, label: str = "label") -> Expectation:
    """A classifier's label, then one probability a class, under these names or the classes' own."""

    def expect(model: Any, x: Any) -> Expected:
        columns = names or tuple(class_column(c) for c in np.asarray(model.classes_).tolist())
        chances = np.asarray(model.predict_proba(x))
        return {label: np.ravel(model.predict(x)), **dict(zip(columns, chances.T, strict=True))}

    return expect


def class_column(value: Any) -> str:
    """The column of a class's probability."""
    return value if isinstance(value, str) else f"class_{str(value).lower().removesuffix('.0')}"


def label(model: Any, x: Any) -> Expected:
    """A label alone."""
    return {"label": np.asarray(model.predict(x))}


def value(model: Any, x: Any) -> Expected:
    """One number."""
    return {"value": np.asarray(model.predict(x))}


def values(*names: str) -> Expectation:
    """Several numbers of one predict()."""

    def expect(model: Any, x: Any) -> Expected:
        found = np.asarray(model.predict(x))
        columns: Sequence[str] = names or [f"value_{n}" for n in range(found.shape[1])]
        return dict(zip(columns, found.T, strict=True))

    return expect
