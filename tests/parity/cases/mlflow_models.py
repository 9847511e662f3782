"""MLflow folders of several flavours; its pyfunc's predictions of the DataFrame are the library's."""

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from sklearn.pipeline import make_pipeline

from scorebeat.models.contract import AddOptions
from tests.parity import expect, frames
from tests.parity.case import Built, Case, Expected
from tests.parity.cases import lightgbm_models, xgboost_models
from tests.parity.cases.prepared import left, logistic, mixed, scaled, strange
from tests.parity.fitted import Save, fitted

COLUMNS = ("age", "income", "debt", "city", "grade")
NUMBERS = ("age", "income", "debt")


def library() -> Any:
    """MLflow, which is slow to import and otherwise reports on its use."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    return import_module("mlflow")


def folder_of(flavour: str, *, signed: bool = True, argument: str = "sk_model", **options: Any) -> Save:
    """Saved by that flavour, with a signature of its inputs."""

    def save(model: Any, folder: Path) -> Path:
        known = frames.customers()[[*(model.feature_names_in_ if hasattr(model, "feature_names_in_") else NUMBERS)]]
        signature = library().models.infer_signature(known, model.predict(known)) if signed else None
        import_module(f"mlflow.{flavour}").save_model(
            **{argument: model},
            path=str(folder / "saved"),
            signature=signature,
            pip_requirements=["scikit-learn"],
            **options,
        )
        return folder / "saved"

    return save


PRICES = """
FACTORS = {"A": 1.5, "B": 0.5}

def factor(grades):
    return grades.map(FACTORS).fillna(1.0)
"""
MODEL = """
import mlflow
import numpy as np
import pandas as pd
from our_prices.factors import factor
from our_rounding import rounded

class Offer(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        price = rounded(np.sqrt(model_input["income"].fillna(0)) * factor(model_input["grade"]))
        return pd.DataFrame({"price": price, "kind": np.where(price > 150, "it's \\u00fcber", "plain")})

mlflow.models.set_model(Offer())
"""


def with_code_paths(folder: Path) -> Built:
    """A class in a file, over a package and a module that are taken along."""
    (folder / "our_prices").mkdir()
    (folder / "our_prices/__init__.py").write_text("")
    (folder / "our_prices/factors.py").write_text(PRICES)
    (folder / "our_rounding.py").write_text("def rounded(values):\n    return values.round(3)\n")
    (folder / "offer.py").write_text(MODEL)
    known = frames.customers()[["income", "grade"]]
    output = known.assign(price=1.0, kind="")[["price", "kind"]]
    pyfunc = library().pyfunc

    sys.path.insert(0, str(folder))
    try:
        pyfunc.save_model(
            path=str(folder / "saved"),
            python_model=str(folder / "offer.py"),
            code_paths=[str(folder / "our_prices"), str(folder / "our_rounding.py")],
            signature=library().models.infer_signature(known, output),
            pip_requirements=["scikit-learn"],
        )
        model = pyfunc.load_model(str(folder / "saved"))
    finally:
        sys.path.remove(str(folder))

    def predict(frame: Any) -> Expected:
        found = model.predict(frame)
        return {"price": found["price"].to_numpy(float), "kind": found["kind"].to_numpy(object)}

    return Built(folder / "saved", frames.today(("income", "grade")), predict, AddOptions(code=frozenset({"mlflow"})))


CASES = {
    "MLflow, scikit-learn": Case(
        fitted(
            make_pipeline(mixed(), logistic()),
            ("age", "income", "debt", "city", "grade", "visits"),
            strange,
            expect.label,
            folder_of("sklearn", serialization_format="cloudpickle"),
            nulls=False,
        ),
        needs=("mlflow",),
    ),
    "MLflow, scikit-learn without a signature": Case(
        fitted(
            make_pipeline(scaled(), logistic()),
            NUMBERS,
            left,
            expect.label,
            folder_of("sklearn", signed=False, serialization_format="cloudpickle"),
            inputs=NUMBERS,
        ),
        needs=("mlflow",),
    ),
    "MLflow, XGBoost": Case(
        fitted(
            xgboost_models.estimator("XGBRegressor"),
            NUMBERS,
            frames.spent,
            expect.value,
            folder_of("xgboost", argument="xgb_model"),
        ),
        needs=("mlflow", "xgboost"),
    ),
    "MLflow, LightGBM": Case(
        fitted(
            lightgbm_models.estimator("LGBMClassifier"),
            NUMBERS,
            strange,
            expect.label,
            folder_of("lightgbm", argument="lgb_model"),
        ),
        needs=("mlflow", "lightgbm"),
    ),
    "MLflow, code in several files": Case(with_code_paths, needs=("mlflow",)),
}
