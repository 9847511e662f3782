"""An estimator of scikit-learn's kind, trained on customers, saved, and called itself."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import skops.io
from sklearn.base import clone

from scorebeat.models.contract import AddOptions
from tests.parity import expect, frames
from tests.parity.case import Built

Save = Callable[[Any, Path], Path]


def skops_file(model: Any, folder: Path) -> Path:
    skops.io.dump(model, folder / "model.skops")
    return folder / "model.skops"


def joblib_file(model: Any, folder: Path) -> Path:
    joblib.dump(model, folder / "model.joblib", compress=3)
    return folder / "model.joblib"


def cloudpickle_file(model: Any, folder: Path) -> Path:
    (folder / "model.pkl").write_bytes(cloudpickle.dumps(model))
    return folder / "model.pkl"


def in_notebook(function: Any) -> Any:
    """The function or class as if it had been written in a notebook: cloudpickle takes its code along."""
    function.__module__ = "__main__"
    return function


CODE = {".joblib": "pickle", ".pkl": "pickle"}
"""The formats that `models add` must be allowed, by the suffix of a file; folders are MLflow's."""


def types_of(columns: Sequence[str]) -> dict[str, str]:
    """The types of these columns of customers in PostgreSQL, if their frame does not show it."""
    return {name: kind for name, kind in frames.TYPES.items() if name in columns}


def fitted(
    model: Any,
    columns: Sequence[str],
    y: Callable[[Any], Any] | None,
    expected: expect.Expectation,
    save: Save = skops_file,
    *,
    x: Callable[[Any], Any] = lambda frame: frame,
    fit: Mapping[str, Any] | None = None,
    dtypes: Mapping[str, Any] | None = None,
    named: Mapping[str, str] | None = None,
    nulls: bool = True,
    built: Mapping[str, Any] | None = None,
    **options: Any,
) -> Callable[[Path], Built]:
    """Build a case: `model`, or what it makes when it is called, fitted on the columns of training customers.

    `y` makes the target of the customers, `x` what fit() and predict() take of a DataFrame with `dtypes`, in which
    columns may be `named` otherwise; `fit` are further arguments of fit(), `built` further fields of the case, and
    `options` are those of `models add`.
    """

    def build(folder: Path) -> Built:
        everyone = frames.customers()
        known = everyone[[*columns]].astype(dict(dtypes or {})).rename(columns=dict(named or {}))
        made = model() if callable(model) else clone(model)
        made.fit(x(known), None if y is None else y(everyone), **dict(fit or {}))
        source = save(made, folder)
        code = "mlflow" if source.is_dir() else CODE.get(source.suffix)
        return Built(
            source,
            frames.today(columns, nulls=nulls).astype(dict(dtypes or {})).rename(columns=dict(named or {})),
            lambda frame: expected(made, x(frame)),
            AddOptions(**({"code": frozenset({code} if code else ())} | options)),
            **({"types": types_of(columns)} | dict(built or {})),
        )

    return build
