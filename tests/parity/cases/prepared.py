"""The common parts of the scikit-learn cases: the usual preparation of columns, and targets."""

from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tests.parity import frames

MIXED = ("age", "income", "visits", "debt", "city", "grade")
QUOTED = ('it\'s "so"', "Größe ä/ö", "a, b; c")


def strange(customers: Any) -> Any:
    """Three classes with names that are hard on SQL."""
    return frames.named(QUOTED, frames.tier(customers))


def left(customers: Any) -> Any:
    """Two classes."""
    return frames.named(("stays", "leaves"), frames.churned(customers))


def logistic(**options: Any) -> LogisticRegression:
    return LogisticRegression(max_iter=2_000, **options)


def scaled() -> Any:
    """Numbers without gaps, on one scale."""
    return make_pipeline(SimpleImputer(strategy="median"), StandardScaler())


def words() -> Any:
    """One column a word."""
    return OneHotEncoder(handle_unknown="ignore")


def columns_of(*parts: Any, **options: Any) -> ColumnTransformer:
    """A ColumnTransformer of (transformer, columns)."""
    return ColumnTransformer([(f"part{n}", *part) for n, part in enumerate(parts)], **options)


def mixed() -> ColumnTransformer:
    """The columns of MIXED by name."""
    return columns_of((scaled(), ["age", "income", "visits", "debt"]), (words(), ["city", "grade"]))
