"""XGBoost: its own files, and its estimators in pickles, with names, categories, ranks and classes.

The library is an extra: it is imported when a case is built, and not before.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import make_pipeline

from tests.parity import expect, frames
from tests.parity.case import Case, Expected
from tests.parity.cases.prepared import MIXED, QUOTED, mixed
from tests.parity.fitted import Save, cloudpickle_file, fitted, joblib_file

NUMBERS = ("age", "income", "debt", "visits")
TWO = expect.probabilities("class_0", "class_1")
GROUPS = {"qid": np.arange(frames.TRAINING_ROWS) // 10}


def estimator(kind: str, **options: Any) -> Callable[[], Any]:
    """Makes an estimator of that class."""
    usual = {"n_estimators": 8, "max_depth": 3, "random_state": 0, "n_jobs": 1}
    return lambda: getattr(import_module("xgboost"), kind)(**(usual | options))


def own_file(suffix: str) -> Save:
    """As the estimator's own save_model writes it."""

    def save(model: Any, folder: Path) -> Path:
        model.save_model(folder / f"model{suffix}")
        return folder / f"model{suffix}"

    return save


def zero_or_one(customers: Any) -> Any:
    return frames.churned(customers).astype(int)


def named_classes(model: Any, x: Any) -> Expected:
    """The file has the classes' numbers only."""
    return {"label": np.asarray(QUOTED)[model.predict(x)], **dict(zip(QUOTED, model.predict_proba(x).T, strict=True))}


def boosted(*arguments: Any, **more: Any) -> Case:
    return Case(fitted(*arguments, **more), needs=("xgboost",))


def categories(frame: Any) -> Any:
    """The library takes neither categories of floats, which pandas makes of codes where some are missing, nor of
    pandas' own texts."""
    named = {"grade": frame["grade"].astype(object).astype("category")} if "grade" in frame else {}
    coded = {"region": pd.Categorical(frame["region"], categories=sorted(frames.REGIONS))} if "region" in frame else {}
    return frame.assign(**named, **coded)


def with_categories(**options: Any) -> Callable[[], Any]:
    return estimator("XGBClassifier", enable_categorical=True, **options)


CASES = {
    "XGBoost .ubj, names in another order": boosted(
        estimator("XGBClassifier"),
        NUMBERS,
        zero_or_one,
        TWO,
        own_file(".ubj"),
        inputs=("visits", "debt", "age", "income"),
    ),
    "XGBoost .json, named classes": boosted(
        estimator("XGBClassifier"), NUMBERS, frames.tier, named_classes, own_file(".json"), classes=QUOTED
    ),
    "XGBoost .ubj, ranker": boosted(
        estimator("XGBRanker"), NUMBERS, frames.tier, expect.value, own_file(".ubj"), fit=GROUPS
    ),
    "XGBoost .ubj, categories of words": boosted(
        with_categories(), ("grade", "age"), zero_or_one, TWO, own_file(".ubj"), x=categories
    ),
    "XGBoost pickled, names in another order": boosted(
        estimator("XGBClassifier"),
        NUMBERS,
        frames.tier,
        expect.probabilities(),
        joblib_file,
        inputs=("income", "age", "visits", "debt"),
    ),
    "XGBoost pickled, categories of words and numbers": boosted(
        with_categories(max_cat_to_onehot=2),
        ("grade", "age", "region"),
        zero_or_one,
        TWO,
        joblib_file,
        x=categories,
    ),
    "XGBoost pickled, ranker": boosted(
        estimator("XGBRanker"), NUMBERS, frames.tier, expect.value, cloudpickle_file, fit=GROUPS
    ),
    "XGBoost in a pipeline of columns": boosted(
        lambda: make_pipeline(mixed(), estimator("XGBRegressor")()),
        MIXED,
        frames.spent,
        expect.value,
        joblib_file,
    ),
}
