"""Trains the example's classifier: how likely a customer is to leave."""

from pathlib import Path

import pyarrow as pa
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from scorebeat.examples.churn import customers
from scorebeat.models.formats.shared.light_skops import skops_io

INPUTS = ("age", "months", "visits")
TRAINING = 0
"""The night whose customers the model was trained on."""


def training_data() -> pa.Table:
    """What was known when the model was trained."""
    return customers.night(TRAINING)


def train() -> Pipeline:
    """The fitted classifier; its classes are `leaves` and `stays`."""
    rows = training_data()
    known = ["leaves" if churned else "stays" for churned in rows["churned"].to_pylist()]
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(rows.select(INPUTS), known)


def write_skops(model: Pipeline, path: Path) -> None:
    """Write the model as scikit-learn's numbers, without pickle."""
    skops_io().dump(model, path)
