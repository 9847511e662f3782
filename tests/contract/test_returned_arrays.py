"""A returned output is ours: neither its next call nor what it writes to its inputs changes a stored prediction."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import skops.io
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from scorebeat.core.errors import DeviceMemoryError
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions, Model
from scorebeat.models.formats import registry
from scorebeat.models.scoring import score_rows
from scorebeat.models.scoring.micro_batches import MicroBatches
from scorebeat.models.store import store
from scorebeat.worker.scoring import isolate
from tests.contract import mlflow_files
from tests.contract.python_files import Write

COUNT = 2000
BAD = 777.0
X = np.arange(COUNT, dtype=np.float64)
ROWS = pa.record_batch({"x": X})
REUSED = """
    import numpy as np
    import pyarrow as pa

    class C:
        inputs = {{"x": "float64"}}
        outputs = {{"y": "float64"}}

        def __init__(self, files, device):
            self.buffer = np.zeros(4000)

        def predict(self, rows):
            x = rows["x"].to_numpy()
            if len(x) > 1 and 777 in x or list(x) == [777]:
                raise ValueError("not this row")
            if len(x) > {most}:
                raise MemoryError
            out = self.buffer[: len(x)]
            np.multiply(x, 2, out=out)
            return {returned}
"""
FORMS = {
    "an array": '{"y": out}',
    "pandas": '{"y": __import__("pandas").Series(out, copy=False)}',
    "an Arrow array": '{"y": pa.array(out)}',
    "a record batch": 'pa.record_batch({"y": pa.array(out)})',
    "a table": 'pa.table({"y": pa.array(out)})',
}


@pytest.mark.parametrize("most", [5000, 300], ids=["bisected", "short of memory"])
@pytest.mark.parametrize("form", FORMS)
def test_a_class_may_return_its_own_buffer_at_every_call(
    write: Write, add: Callable[..., Artifact], form: str, most: int
) -> None:
    write("reuses.py", REUSED.format(returned=FORMS[form], most=most))
    model = MicroBatches(registry.load(add("reuses:C")))

    scored = isolate.predict_isolating_failures(model.predict, ROWS)

    good = X[X != BAD]
    assert [failed.index for failed in scored.failed] == [int(BAD)]
    assert scored.predictions["y"].to_numpy().tolist() == (2 * good).tolist()


def test_a_class_may_return_its_own_buffer_to_micro_batches(write: Write, add: Callable[..., Artifact]) -> None:
    write("reuses.py", REUSED.format(returned=FORMS["an array"], most=5000))
    rows = ROWS.slice(0, 700)

    found = MicroBatches(registry.load(add("reuses:C")), 99).predict(rows)

    assert found["y"].to_numpy().tolist() == (2 * X[:700]).tolist()


class Buffered(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn publishes no types
    """A regressor that keeps the array that it returns."""

    def fit(self, x: Any, y: Any = None) -> "Buffered":
        del y
        self.n_features_in_ = x.shape[1]
        self.buffer_ = np.zeros((4000, 2))
        return self

    def predict(self, x: Any) -> Any:
        out = self.buffer_[: len(x), 0]
        out[:] = 2 * np.asarray(x)[:, 0]
        return out


class BufferedClassifier(ClassifierMixin, Buffered):  # type: ignore[misc]  # as above
    """The same of probabilities, in the order of memory in which Arrow could take its columns as they are."""

    def fit(self, x: Any, y: Any = None) -> "BufferedClassifier":
        super().fit(x)
        self.classes_, self.labels_ = np.unique(y), np.zeros(4000, dtype=np.int64)
        self.probabilities_ = np.zeros((4000, 2), order="F")
        return self

    def predict(self, x: Any) -> Any:
        out = self.labels_[: len(x)]
        out[:] = np.asarray(x)[:, 0] > COUNT / 2
        return out

    def predict_proba(self, x: Any) -> Any:
        out = self.probabilities_[: len(x)]
        out[:, 1] = np.asarray(x)[:, 0] / COUNT
        out[:, 0] = 1 - out[:, 1]
        return out


def pickled(folder: Path, model: Any, *inputs: str) -> Model:
    """The model through a file and the store."""
    (folder / "m.pkl").write_bytes(cloudpickle.dumps(model))
    code = frozenset({"pickle"})
    return registry.load(store.add(folder / "store", folder / "m.pkl", "m", AddOptions(inputs or ("x",), code=code)))


@pytest.mark.parametrize("made", [Buffered, BufferedClassifier])
def test_an_estimator_may_return_its_own_buffer(tmp_path: Path, made: Callable[[], Any]) -> None:
    x = X[:, None]
    fitted = made().fit(x, (x[:, 0] > COUNT / 2).astype(int))
    wanted = fitted.predict(x).tolist()

    found = MicroBatches(pickled(tmp_path, fitted), 99).predict(ROWS)

    assert found.column(0).to_pylist() == wanted
    if made is BufferedClassifier:
        assert found["class_1"].to_pylist() == fitted.predict_proba(x)[:, 1].tolist()


@pytest.mark.slow
def test_a_python_function_of_mlflow_may_return_its_own_buffer(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    mlflow = mlflow_files.library()
    table = pd.DataFrame({"x": X})
    signature = mlflow.models.infer_signature(table, X)
    mlflow.sklearn.save_model(
        Buffered().fit(table), tmp_path / "saved", signature=signature, serialization_format="cloudpickle",
        pip_requirements=["scikit-learn"],
    )  # fmt: skip
    options = AddOptions(code=frozenset({"mlflow"}))
    model = registry.load(store.add(tmp_path / "store", tmp_path / "saved", "m", options))

    found = MicroBatches(model, 99).predict(ROWS)

    assert found.column(0).to_pylist() == (2 * X).tolist()


def doubled(x: Any) -> Any:
    """In place, as much code of notebooks is."""
    x *= 2
    return x


def doubled_column(table: Any) -> Any:
    table["x"] = table["x"] * 2
    return table


class Harmful(BufferedClassifier):
    """Writes to what it is fed, in both of its methods."""

    def predict(self, x: Any) -> Any:
        return super().predict(doubled_column(x) if hasattr(x, "columns") else doubled(x))

    def predict_proba(self, x: Any) -> Any:
        return super().predict_proba(doubled_column(x) if hasattr(x, "columns") else doubled(x))


@pytest.mark.parametrize("fed", [np.asarray, partial(pd.DataFrame, columns=["x"])], ids=["matrix", "table"])
def test_labels_and_probabilities_are_of_the_same_inputs_though_a_model_writes_them(
    tmp_path: Path, fed: Callable[[NDArray[np.float64]], Any]
) -> None:
    x = X[:, None]
    fitted = Harmful().fit(fed(x.copy()), (X > COUNT / 2).astype(int))
    labels, probabilities = fitted.predict(fed(x.copy())).tolist(), fitted.predict_proba(fed(x.copy())).tolist()

    found = MicroBatches(pickled(tmp_path, fitted), 99).predict(ROWS)

    assert found["label"].to_pylist() == labels
    assert np.column_stack([found["class_0"], found["class_1"]]).tolist() == probabilities
    assert ROWS["x"].to_numpy().tolist() == list(range(COUNT))


@pytest.mark.parametrize("last", [LogisticRegression(), SVC()], ids=["label of the likeliest", "label of predict"])
def test_a_step_that_writes_in_place_scores_as_by_hand(tmp_path: Path, last: Any) -> None:
    x = np.random.default_rng(0).normal(size=(200, 1))
    model = make_pipeline(FunctionTransformer(doubled), StandardScaler(copy=False), last)
    fitted = model.fit(x.copy(), (x[:, 0] > 0).astype(int))
    rows = pa.record_batch({"features": pa.FixedSizeListArray.from_arrays(pa.array(x[:, 0]), 1)})
    named = pa.record_batch({"x": x[:, 0]})

    for query, inputs in ((rows, ("features:float64[1]",)), (named, ("x",))):
        found = score_rows.predict(pickled(tmp_path, fitted, *inputs), query)

        assert found["label"].to_pylist() == fitted.predict(x.copy()).tolist()


def test_a_retry_after_an_error_gets_the_inputs_as_they_were(tmp_path: Path) -> None:
    class Once(Buffered):
        def predict(self, x: Any) -> Any:
            doubled(x)
            if len(x) > 600:
                raise MemoryError
            if len(x) > 1 and 2 * BAD in x:
                raise ValueError("not with this row")
            return super().predict(x)

    fitted = Once().fit(X[:, None])

    scored = isolate.predict_isolating_failures(MicroBatches(pickled(tmp_path, fitted)).predict, ROWS)

    assert scored.failed == ()
    assert scored.predictions.column(0).to_pylist() == (4 * X).tolist()


def test_scikit_learns_own_classifier_is_not_copied_once_more(tmp_path: Path) -> None:
    skops.io.dump(LogisticRegression().fit(X[:, None], X > COUNT / 2), tmp_path / "m.skops")
    model = registry.load(store.add(tmp_path / "store", tmp_path / "m.skops", "m", AddOptions(("x",))))

    assert getattr(model, "returns_new_arrays", False)


def test_an_array_of_one_piece_is_copied_too() -> None:
    values = np.zeros(3)
    kept = score_rows.predict(_Returns(values), ROWS.slice(0, 3))
    values[:] = 9

    assert kept["y"].to_pylist() == [0.0, 0.0, 0.0]


class _Returns:
    outputs = pa.schema([("y", pa.float64())])

    def __init__(self, values: NDArray[np.float64]) -> None:
        self.values = values

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        if rows.num_rows != len(self.values):
            raise DeviceMemoryError("no")
        return pa.record_batch({"y": pa.array(self.values)})
