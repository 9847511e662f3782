"""MLflow model folders as people save them, each with the loop that its predictions must equal."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

IRIS = load_iris()
SPECIES = IRIS.target_names[IRIS.target]
FOUR = ("a", "b", "c", "d")
TABLE = pd.DataFrame(IRIS.data, columns=list(FOUR))
Loop = Callable[[NDArray[np.float64]], list[Any]]
NOTHING_MORE: dict[str, Any] = {"pip_requirements": ["scikit-learn"]}
"""Finding out what a model requires takes MLflow seconds."""


def library() -> Any:
    """MLflow, which is slow to import and otherwise reports on its use."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow.sklearn  # noqa: PLC0415 -- see above

    return mlflow


def saved(folder: Path, model: Any, inputs: Any, output: Any) -> Path:
    """A scikit-learn model with a signature, or without one where `inputs` is None."""
    mlflow = library()
    signature = None if inputs is None else mlflow.models.infer_signature(inputs, output)
    mlflow.sklearn.save_model(
        model, folder / "saved", signature=signature, serialization_format="skops", **NOTHING_MORE
    )
    return folder / "saved"


def named_columns(folder: Path) -> tuple[Path, Loop]:
    """Columns of numbers in, labels out: what mlflow.sklearn saves of a classifier."""
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(TABLE, SPECIES)
    return saved(folder, model, TABLE, model.predict(TABLE)), lambda row: [model.predict(_table(row))[0]]


def tensors(folder: Path) -> tuple[Path, Loop]:
    """One array in, several numbers out."""
    model = LinearRegression().fit(IRIS.data, IRIS.data[:, :2] * 2)
    return saved(folder, model, IRIS.data, model.predict(IRIS.data)), lambda row: model.predict(row)[0].tolist()


def unsigned(folder: Path) -> tuple[Path, Loop]:
    """No signature at all."""
    model = LinearRegression().fit(TABLE, IRIS.data[:, 0])
    return saved(folder, model, None, None), lambda row: model.predict(_table(row)).tolist()


CODE = """
import mlflow
import pandas as pd

class Sizes(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        area = model_input["a"] * model_input["b"]
        return pd.DataFrame({"area": area, "size": ["big" if each > 18 else "small" for each in area]})

mlflow.models.set_model(Sizes())
"""


def own_code(folder: Path) -> tuple[Path, Loop]:
    """A Python model that returns a table of two columns."""
    (folder / "sizes.py").write_text(CODE)
    mlflow = library()
    output = pd.DataFrame({"area": [1.0], "size": ["small"]})
    signature = mlflow.models.infer_signature(TABLE, output)
    mlflow.pyfunc.save_model(
        folder / "saved", python_model=str(folder / "sizes.py"), signature=signature, **NOTHING_MORE
    )
    return folder / "saved", lambda row: [
        row[0, 0] * row[0, 1],
        "big" if row[0, 0] * row[0, 1] > 18 else "small",
    ]


def _table(row: NDArray[np.float64]) -> pd.DataFrame:
    return pd.DataFrame(row, columns=list(FOUR))
