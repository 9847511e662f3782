"""A model that no table or query could serve is refused when it is added, with the reason and nothing left behind."""

import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from onnx import save as save_graph
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from scorebeat.core.errors import StoreError
from scorebeat.models.contract import AddOptions
from scorebeat.models.formats import registry
from scorebeat.models.formats.sklearn import skops_format
from scorebeat.models.store import local, store
from tests.contract.onnx_files import embedding, matmul
from tests.support.iris_models import X, Y, dump, file, root

pytestmark = pytest.mark.wide(quick=5)

__all__ = ["file", "root"]


def refused(root: Path, file: Path, match: str, **options: Any) -> None:
    with pytest.raises(StoreError, match=match):
        store.add(root, file, "iris", AddOptions(**options))
    assert local.versions(root, "iris") == []
    assert not root.exists() or not list(root.iterdir())


def run_text(x: Any) -> Any:
    return x


@pytest.mark.quick
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
    assert store.add(root, path, "iris", AddOptions(outputs=("a", "b", "c"))).signature.outputs.names[1:] == [
        "a",
        "b",
        "c",
    ]


def test_classes_and_names_that_collide_are_refused_together(root: Path, tmp_path: Path) -> None:
    model = DecisionTreeClassifier().fit(X, np.array(["batch_id", "scored_at", "label"])[Y])
    path = dump(tmp_path / "m.skops", model)

    refused(root, path, "3 output columns .*'label' is used twice.*'batch_id' is the name.*'scored_at' is the name")
    refused(root, path, "'a' is used twice", outputs=("a", "a", "b"))
    refused(root, path, "'label' is used twice", outputs=("label", "a", "b"))


def test_wrong_numbers_of_input_and_output_names_are_refused(root: Path, file: Path, tmp_path: Path) -> None:
    onnx, _ = embedding(tmp_path)

    refused(root, file, "wants 4 inputs, but --inputs names 3", inputs=["a", "b", "c"])
    refused(root, file, "names c more than once", inputs=["a", "b", "c", "c"])
    refused(root, file, "returns 4 columns", outputs=["a", "b"])
    refused(root, onnx, "wants 4 values", inputs=["a"])


def test_a_model_that_cannot_score_a_matrix_is_refused(root: Path, tmp_path: Path) -> None:
    picks = ColumnTransformer([("a", StandardScaler(), [0])]).fit(X)
    picks.transformers_ = [("a", picks.transformers_[0][1], ["sepal"])]
    by_name = make_pipeline(picks, LogisticRegression())
    by_name.steps[1][1].fit(X[:, :1], Y)

    refused(root, dump(tmp_path / "c.skops", by_name), "picks columns by name")


@pytest.mark.parametrize("model", [LogisticRegression(), DecisionTreeRegressor(), KMeans(), make_pipeline(Ridge())])
def test_a_model_that_is_not_fitted_is_refused(root: Path, tmp_path: Path, model: Any) -> None:
    refused(root, dump(tmp_path / "m.skops", model), r"^.*m\.skops holds a \w+ that is not fitted: call fit\(\)")


def test_an_error_of_a_library_is_reported_in_one_line(root: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise AttributeError("no\nsuch thing")

    monkeypatch.setattr(skops_format, "describe", fails)

    refused(root, file, r"iris\.skops was not added: AttributeError: no such thing$")


@pytest.mark.parametrize("folder", [Path("artifacts"), Path("artifacts").absolute()])
def test_an_error_names_the_users_file_and_never_its_copy(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("bad.skops", "bad.onnx", "bad.ubj", "bad.txt"):
        Path(name).write_bytes(b"tree junk")

        with pytest.raises(StoreError) as error:
            store.add(folder, name, "m")

        assert name in str(error.value)
        assert not re.search(r"\bmodel\.(skops|onnx|ubj|txt)\b|\.adding-|artifacts", str(error.value))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ("x", "y")}, "--classes does nothing: leave it out"),
        ({"files": ("l.txt",), "code": frozenset({"mlflow"})}, "--file, --allow-code mlflow do nothing: leave them"),
        ({"code": frozenset({"pickle"})}, "--allow-code pickle does nothing"),
        ({"trusted": frozenset({"foo.Bar"})}, r"iris\.skops needs no trust in foo\.Bar"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused_by_name(
    root: Path, file: Path, options: dict[str, Any], message: str
) -> None:
    refused(root, file, message, **options)


def test_text_for_a_model_that_takes_numbers_is_refused(root: Path, file: Path) -> None:
    refused(root, file, r"takes numbers, but --inputs says that b is text", inputs=("a", "b:string", "c", "d"))


def test_an_operator_that_is_not_known_is_refused_with_what_helps(root: Path, tmp_path: Path) -> None:
    save_graph(matmul(np.ones((4, 3), np.float32), rows="n", op="Mystery"), tmp_path / "m.onnx")

    refused(root, tmp_path / "m.onnx", r"m\.onnx cannot be loaded .*Mystery.* older opset, .*of your own are not")


class Fails:
    inputs: ClassVar = {"review": "string"}
    outputs: ClassVar = {"label": "string"}

    def __init__(self, files: Path, device: str) -> None: ...

    def predict(self, rows: Any) -> Any:
        raise KeyError(f"zz of {len(rows)}")


def test_a_failed_trial_of_a_model_that_reads_text_is_reported(root: Path, file: Path) -> None:
    failed = store.add(root, f"{__name__}:Fails", "fails")
    ran = store.add(root, file, "iris")

    assert "8 invented rows of review string raised KeyError: 'zz of 8'" in failed.notes[0]
    assert ran.notes == ()


@pytest.mark.parametrize("targets", [1_001, 1_598])
def test_more_columns_than_a_table_holds_are_refused(root: Path, tmp_path: Path, targets: int) -> None:
    model = LinearRegression().fit(X, np.tile(Y[:, None], targets))

    refused(
        root, dump(tmp_path / "m.skops", model), f"returns {targets:,} columns, more than .*Wrap it in a Python class"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("m.pt", r"m\.pt: .*torch\.export\.save\(torch\.export\.export"),
        ("m.PTH", "torch.export.save"),
        ("m.py", "module:Class, such as"),
    ],
)
def test_a_file_that_is_nearly_a_model_is_refused_with_the_next_step(
    root: Path, tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / name).write_bytes(b"x")

    refused(root, tmp_path / name, message)


@pytest.mark.parametrize(
    ("module", "message"), [("cv2.dnn", "install the package that has it"), ("torch", r"\[torch\]")]
)
def test_a_missing_module_is_no_guess_at_a_package(module: str, message: str) -> None:
    error = str(registry.missing_module_error(ModuleNotFoundError(name=module), "a model"))

    assert re.search(message, error)
    assert "pip install cv2" not in error
