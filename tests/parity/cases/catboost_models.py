"""CatBoost in pickles. Its wheel and what it needs weigh 135 MB, so that `make test` does not install it."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from tests.parity import expect, frames
from tests.parity.case import Case
from tests.parity.cases.prepared import strange
from tests.parity.fitted import fitted, joblib_file


def estimator(kind: str, **options: Any) -> Callable[[], Any]:
    """Makes an estimator of that class."""
    usual = {"iterations": 8, "depth": 3, "random_seed": 0, "thread_count": 1, "verbose": False}
    return lambda: getattr(import_module("catboost"), kind)(**(usual | options), allow_writing_files=False)


def boosted(model: Any, columns: Sequence[str], y: Any, expected: expect.Expectation, **more: Any) -> Case:
    return Case(fitted(model, columns, y, expected, joblib_file, **more), needs=("catboost",))


CASES = {
    "CatBoost, several classes": boosted(
        estimator("CatBoostClassifier"), ("age", "income", "debt"), strange, expect.probabilities()
    ),
    "CatBoost, two classes of words": boosted(
        estimator("CatBoostClassifier", cat_features=["grade"]),
        ("age", "grade", "income"),
        lambda customers: frames.churned(customers).astype(int),
        expect.probabilities(),
    ),
    "CatBoost, number of words and codes": boosted(
        estimator("CatBoostRegressor", cat_features=["region", "grade"]),
        ("grade", "region", "age"),
        frames.spent,
        expect.value,
        inputs=("grade", "region:int64", "age"),
        nulls=False,
    ),
    "CatBoost, two numbers": boosted(
        estimator("CatBoostRegressor", loss_function="MultiRMSE"),
        ("age", "debt"),
        lambda customers: np.column_stack([frames.spent(customers), frames.tier(customers)]),
        expect.values(),
    ),
}
