"""LightGBM: its own files, and its estimators in pickles, with names, categories, ranks and classes.

The library is an extra: it is imported when a case is built, and not before.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity import expect, frames
from tests.parity.case import Case, Expected
from tests.parity.cases.prepared import QUOTED, strange
from tests.parity.fitted import Save, cloudpickle_file, fitted, joblib_file

NUMBERS = ("age", "income", "debt", "visits")
GROUPS = {"group": [10] * (frames.TRAINING_ROWS // 10)}


def estimator(kind: str, **options: Any) -> Callable[[], Any]:
    """Makes an estimator of that class."""
    usual = {"n_estimators": 8, "num_leaves": 7, "random_state": 0, "n_jobs": 1, "verbose": -1}
    return lambda: getattr(import_module("lightgbm"), kind)(**(usual | options))


def own_file(suffix: str) -> Save:
    """As the booster's own save_model writes it."""

    def save(model: Any, folder: Path) -> Path:
        model.booster_.save_model(folder / f"model{suffix}")
        return folder / f"model{suffix}"

    return save


def named_classes(model: Any, x: Any) -> Expected:
    """The file has the classes' numbers only."""
    return {"label": np.asarray(QUOTED)[model.predict(x)], **dict(zip(QUOTED, model.predict_proba(x).T, strict=True))}


def boosted(*arguments: Any, **more: Any) -> Case:
    return Case(fitted(*arguments, **more), needs=("lightgbm",))


CASES = {
    "LightGBM .lgb, named classes, names in another order": boosted(
        estimator("LGBMClassifier"),
        NUMBERS,
        frames.tier,
        named_classes,
        own_file(".lgb"),
        inputs=("visits", "debt", "age", "income"),
        classes=QUOTED,
    ),
    "LightGBM .txt, names with spaces": boosted(
        estimator("LGBMRegressor"),
        ("income", "age"),
        frames.spent,
        expect.value,
        own_file(".txt"),
        named={"income": "yearly income", "age": "age in years"},
        inputs=("age in years", "yearly income"),
    ),
    "LightGBM .txt, categories of words and numbers": boosted(
        estimator("LGBMRegressor", min_child_samples=5),
        ("city", "age", "region"),
        frames.spent,
        expect.value,
        own_file(".txt"),
        dtypes={"city": "category", "region": "category"},
    ),
    "LightGBM pickled, names in another order": boosted(
        estimator("LGBMClassifier"),
        NUMBERS,
        strange,
        expect.probabilities(),
        joblib_file,
        inputs=("income", "age", "visits", "debt"),
    ),
    "LightGBM pickled, categories of numbers": boosted(
        estimator("LGBMClassifier", min_child_samples=5),
        ("region", "age"),
        strange,
        expect.probabilities(),
        joblib_file,
        dtypes={"region": "category"},
    ),
    "LightGBM pickled, categories of words": boosted(
        estimator("LGBMRegressor", min_child_samples=5),
        ("grade", "city", "age"),
        frames.spent,
        expect.value,
        joblib_file,
        dtypes={"city": "category", "grade": "category"},
    ),
    "LightGBM pickled, ranker": boosted(
        estimator("LGBMRanker"), NUMBERS, frames.tier, expect.value, cloudpickle_file, fit=GROUPS
    ),
}
