"""scikit-learn models that are fed a DataFrame or texts, and models in pickles, each with the loop to equal."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import skops.io
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

IRIS = load_iris()
X: NDArray[np.float64] = IRIS.data
SPECIES = IRIS.target_names[IRIS.target]
Rows = list[list[Any]]
Loop = Callable[[NDArray[np.float64]], list[Any]]
Write = Callable[[Path], tuple[Path, Loop]]


def as_table(rows: Rows) -> pa.RecordBatch:
    """Three numbers and a word for the fourth, in another order than in training."""
    a, b, c, d = zip(*rows, strict=True)
    widths = [None if width is None else "thin" if width < 0.8 else "broad" for width in d]
    columns = {"width": widths, "c": c, "b": b, "a": a}
    types = {"width": pa.string(), "c": pa.float64(), "b": pa.float64(), "a": pa.float64()}
    return pa.RecordBatch.from_pydict(columns, schema=pa.schema(types))


def as_text(rows: Rows) -> pa.RecordBatch:
    """A sentence about each row."""
    texts = [None if None in row else _sentence(row) for row in rows]
    return pa.RecordBatch.from_pydict({"text": texts}, schema=pa.schema({"text": pa.string()}))


def _sentence(row: list[float]) -> str:
    words = (f"{name}{round(value)}" for name, value in zip("abcd", row, strict=True))
    return f"It is {' '.join(words)}, Zoë said."


def training() -> pd.DataFrame:
    return as_table(X.tolist()).to_pandas()[["a", "b", "c", "width"]]


def by_column(model: Any, y: Any) -> Write:
    """A model after a ColumnTransformer that scales numbers and encodes words, by their names."""
    scaled = ("numbers", StandardScaler(), ["a", "b", "c"])
    return framed(make_pipeline(ColumnTransformer([scaled, ("words", OneHotEncoder(), ["width"])]), model), y)


def framed(model: Any, y: Any) -> Write:
    def write(folder: Path) -> tuple[Path, Loop]:
        fitted = model.fit(training(), y)
        skops.io.dump(fitted, folder / "m.skops")
        columns = ["a", "b", "c", "width"]
        return folder / "m.skops", lambda row: _outputs(fitted, as_table(row.tolist()).to_pandas()[columns])

    return write


def boosted_categories(folder: Path) -> tuple[Path, Loop]:
    """Gradient boosting that takes the DataFrame's categories as they are."""
    model = HistGradientBoostingClassifier(max_iter=3, categorical_features="from_dtype")
    table = training().astype({"width": "category"})
    fitted = model.fit(table, SPECIES)
    skops.io.dump(fitted, folder / "m.skops")

    def loop(row: NDArray[np.float64]) -> list[Any]:
        one = as_table(row.tolist()).to_pandas()[["a", "b", "c", "width"]]
        return _outputs(fitted, one.astype({"width": table["width"].dtype}))

    return folder / "m.skops", loop


def texts(model: Any, y: Any) -> Write:
    """A model after a text vectorizer."""

    def write(folder: Path) -> tuple[Path, Loop]:
        fitted = make_pipeline(TfidfVectorizer(), model).fit([_sentence(row) for row in X.tolist()], y)
        skops.io.dump(fitted, folder / "m.skops")
        return folder / "m.skops", lambda row: _outputs(fitted, [_sentence(row[0].tolist())])

    return write


def pickled(dump: Callable[[Any, Path], Any], name: str) -> Write:
    """A classifier in a file that runs code when it is opened."""

    def write(folder: Path) -> tuple[Path, Loop]:
        fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, SPECIES)
        dump(fitted, folder / name)
        return folder / name, lambda row: _outputs(fitted, row)

    return write


COLUMNS_CLASSIFIER = by_column(LogisticRegression(max_iter=1000), SPECIES)
COLUMNS_REGRESSOR = by_column(LinearRegression(), X[:, :2])
TEXT_CLASSIFIER = texts(LogisticRegression(), SPECIES)
TEXT_REGRESSOR = texts(LinearRegression(), X[:, 0])
JOBLIB = pickled(joblib.dump, "m.joblib")


def _outputs(model: Any, rows: Any) -> list[Any]:
    labels: list[Any] = np.atleast_1d(np.squeeze(model.predict(rows))).tolist()
    return labels + (model.predict_proba(rows)[0].tolist() if hasattr(model, "predict_proba") else [])
