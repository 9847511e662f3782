"""A model of the iris flowers in a file, another one, and a folder for a store of models."""

from pathlib import Path
from typing import Any

import pytest
import skops.io
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

X, Y = load_iris(return_X_y=True)


def dump(path: Path, model: Any) -> Path:
    skops.io.dump(model, path)
    return path


def classifier(c: float = 1.0) -> LogisticRegression:
    """Fitted; `c` is the inverse of its regularisation, so another one makes another model."""
    return LogisticRegression(C=c, max_iter=1000).fit(X, Y)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return dump(tmp_path / "iris.skops", classifier())


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return dump(tmp_path / "other.skops", classifier(0.1))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"
