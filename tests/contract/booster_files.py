"""XGBoost and LightGBM models of the kinds that people train, each with the loop that its predictions must equal.

Both are extras: they are imported when a file is written, and not before.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_iris

Loop = Callable[[NDArray[np.float64]], list[Any]]
Writer = Callable[[Path], tuple[Path, Loop]]
X, Y = load_iris(return_X_y=True)
BINARY = (Y > 0).astype(int)
ROUNDS = {"n_estimators": 5, "max_depth": 3, "random_state": 0, "n_jobs": 1}


def by_estimator(model: Any, classes: tuple[str, ...] = ()) -> Loop:
    """The outputs of an estimator of scikit-learn's kind for a row: label and probabilities, or values."""

    def loop(row: NDArray[np.float64]) -> list[Any]:
        found: list[Any] = np.ravel(model.predict(row)).tolist()
        if not hasattr(model, "predict_proba"):
            return found
        label = classes[found[0]] if classes else found[0]
        return [label, *model.predict_proba(row)[0].tolist()]

    return loop


def xgboost(kind: str, y: NDArray[Any], suffix: str = ".ubj", classes: tuple[str, ...] = (), **options: Any) -> Writer:
    """`XGBClassifier`, `XGBRegressor` or `XGBRanker` as its own save_model writes it."""

    def write(folder: Path) -> tuple[Path, Loop]:
        library = import_module("xgboost")

        ranking = {"qid": np.repeat(np.arange(15), 10)} if kind == "XGBRanker" else {}
        model = getattr(library, kind)(**(ROUNDS | options)).fit(X, y, **ranking)
        model.save_model(folder / f"m{suffix}")
        return folder / f"m{suffix}", by_estimator(model, classes)

    return write


def xgboost_stopped(folder: Path) -> tuple[Path, Loop]:
    """Trained past its best iteration, which the estimator then uses alone."""
    library = import_module("xgboost")

    rng = np.random.default_rng(0)
    noisy = np.where(rng.random(len(Y)) < 0.4, rng.integers(0, 2, len(Y)), BINARY)
    model = library.XGBClassifier(n_estimators=60, early_stopping_rounds=10, learning_rate=0.8, n_jobs=1)
    model.fit(X[::2], noisy[::2], eval_set=[(X[1::2], noisy[1::2])], verbose=False)
    model.save_model(folder / "m.json")
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    return folder / "m.json", by_estimator(model)


def lightgbm(kind: str, y: NDArray[Any], suffix: str = ".lgb", classes: tuple[str, ...] = (), **options: Any) -> Writer:
    """`LGBMClassifier`, `LGBMRegressor` or `LGBMRanker`, as its booster's save_model writes it."""

    def write(folder: Path) -> tuple[Path, Loop]:
        library = import_module("lightgbm")

        ranking = {"group": [10] * 15} if kind == "LGBMRanker" else {}
        model = getattr(library, kind)(**(ROUNDS | {"verbose": -1} | options)).fit(X, y, **ranking)
        model.booster_.save_model(folder / f"m{suffix}")
        return folder / f"m{suffix}", by_estimator(model, classes)

    return write
