"""A model that no table or query could serve is refused when it is added, with the reason and nothing left behind."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from core.errors import StoreError
from models import folder_store, store
from models.contract import Given
from tests.contract.onnx_files import embedding

X, Y = load_iris(return_X_y=True)


def dump(path: Path, model: Any) -> Path:
    skops.io.dump(model, path)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return dump(tmp_path / "iris.skops", LogisticRegression(max_iter=1000).fit(X, Y))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"


def refused(root: Path, file: Path, match: str, **options: Any) -> None:
    with pytest.raises(StoreError, match=match):
        store.add(root, file, "iris", Given(**options))
    assert folder_store.versions(root, "iris") == []
    assert not root.exists() or not list(root.iterdir())


def run_text(x: Any) -> Any:
    return x


def test_code_in_a_skops_file_is_refused_by_name(root: Path, tmp_path: Path) -> None:
    # NumPy's own test helper runs text as code, so that trusting all of numpy would not do
    from numpy.testing import runstring  # noqa: PLC0415

    for function, name in ((run_text, "run_text"), (runstring, "numpy.testing.*runstring")):
        model = make_pipeline(FunctionTransformer(), LogisticRegression(max_iter=1000)).fit(X, Y)
        model.steps[0][1].func = function
        refused(root, dump(tmp_path / "m.skops", model), f"not trusted.*{name}")


@pytest.mark.parametrize("name", ["", "label", "batch_id", "scored_at", "xmin", "x" * 64, "ä" * 32, "a\0b"])
def test_a_class_that_no_column_can_be_named_after_is_refused_by_name(root: Path, tmp_path: Path, name: str) -> None:
    model = DecisionTreeClassifier().fit(X, np.array([name, "b", "c"], dtype=object)[Y])
    path = dump(tmp_path / "m.skops", model)

    refused(root, path, "cannot be made")
    assert store.add(root, path, "iris", Given(outputs=("a", "b", "c"))).signature.outputs.names[1:] == ["a", "b", "c"]


def test_classes_and_names_that_collide_are_refused_together(root: Path, tmp_path: Path) -> None:
    model = DecisionTreeClassifier().fit(X, np.array(["batch_id", "scored_at", "label"])[Y])
    path = dump(tmp_path / "m.skops", model)

    refused(
        root, path, "3 output columns .*'label' stands there twice.*'batch_id' is the name.*'scored_at' is the name"
    )
    refused(root, path, "'a' stands there twice", outputs=("a", "a", "b"))
    refused(root, path, "'label' stands there twice", outputs=("label", "a", "b"))


def test_wrong_numbers_of_input_and_output_names_are_refused(root: Path, file: Path, tmp_path: Path) -> None:
    onnx, _ = embedding(tmp_path)

    refused(root, file, "wants 4 inputs, but --inputs names 3", inputs=["a", "b", "c"])
    refused(root, file, "names c more than once", inputs=["a", "b", "c", "c"])
    refused(root, file, "gives 4 columns", outputs=["a", "b"])
    refused(root, onnx, "wants 4 values", inputs=["a"])


def test_a_model_that_cannot_score_a_matrix_is_refused(root: Path, tmp_path: Path) -> None:
    several = DecisionTreeClassifier().fit(X, np.stack([Y, Y], axis=1))
    picks = ColumnTransformer([("a", StandardScaler(), [0])]).fit(X)
    picks.transformers_ = [("a", picks.transformers_[0][1], ["sepal"])]
    by_name = make_pipeline(picks, LogisticRegression())
    by_name.steps[1][1].fit(X[:, :1], Y)

    refused(root, dump(tmp_path / "a.skops", StandardScaler().fit(X)), "no predict")
    refused(root, dump(tmp_path / "b.skops", several), "several outputs")
    refused(root, dump(tmp_path / "c.skops", by_name), "picks columns by name")
