"""All cases by their titles. Another library's cases are a module beside these, and a line here."""

from tests.parity.case import Case
from tests.parity.cases import (
    catboost_models,
    lightgbm_models,
    mlflow_models,
    onnx_models,
    own_code,
    sklearn_columns,
    sklearn_models,
    sklearn_outputs,
    sklearn_texts,
    sklearn_types,
    xgboost_models,
)

MODULES = (
    sklearn_columns,
    sklearn_models,
    sklearn_outputs,
    sklearn_texts,
    sklearn_types,
    xgboost_models,
    lightgbm_models,
    catboost_models,
    onnx_models,
    mlflow_models,
    own_code,
)
CASES: dict[str, Case] = {title: case for module in MODULES for title, case in module.CASES.items()}
assert len(CASES) == sum(len(module.CASES) for module in MODULES), "two cases have the same title"
