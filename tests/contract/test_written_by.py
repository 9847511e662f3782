"""A file of another version of its library is reported with both versions first.

The files in written_by_1_5/ are scikit-learn 1.5.2's own: the loss of gradient boosting was in a module `_loss` then.
"""

import pickle
import shutil
from pathlib import Path

import joblib
import numpy as np
import pytest
import sklearn
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scorebeat.core.errors import ModelError, StoreError
from scorebeat.models.contract import AddOptions
from scorebeat.models.formats.shared import written_by
from scorebeat.models.store import store

OLD = Path(__file__).with_name("written_by_1_5")
BOTH = rf"written by scikit-learn 1\.5\.2, installed is {sklearn.__version__}"


def options_for(path: Path) -> AddOptions:
    return AddOptions(code=frozenset() if path.suffix == ".skops" else frozenset({"pickle"}))


@pytest.mark.parametrize("name", ["boosting.pkl", "boosting.joblib", "boosting.skops"])
def test_the_error_for_a_file_that_does_not_open_begins_with_both_versions(tmp_path: Path, name: str) -> None:
    source = OLD / name

    with pytest.raises(StoreError, match=rf"was not added: {BOTH}: .*_loss.*scikit-learn==1\.5\.2") as refused:
        store.add(tmp_path, source, "m", options_for(source))

    assert "--trust" not in str(refused.value)


@pytest.mark.parametrize("name", ["logistic.pkl", "logistic.skops"])
def test_a_file_that_opens_under_another_version_is_added_with_a_note(tmp_path: Path, name: str) -> None:
    source = OLD / name

    (note,) = store.add(tmp_path, source, "m", options_for(source)).notes

    assert note.startswith(f"written by scikit-learn 1.5.2, installed is {sklearn.__version__}. It opened")


def model() -> object:
    x = np.random.default_rng(0).random((20, 2))
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(x, [0, 1] * 10)


@pytest.mark.parametrize("protocol", range(6))
def test_the_version_is_found_in_each_protocol_of_pickle(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(model(), protocol))

    found = written_by.of_pickle(tmp_path / "m.pkl")

    assert (found and found.version) == sklearn.__version__


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)], ids=str)
def test_the_version_is_found_in_what_joblib_compressed(tmp_path: Path, compress: object) -> None:
    joblib.dump(model(), tmp_path / "m.joblib", compress=compress)

    found = written_by.of_pickle(tmp_path / "m.joblib")

    assert (found and found.version) == sklearn.__version__


def test_a_file_of_the_installed_version_has_no_note_and_others_no_version(tmp_path: Path) -> None:
    skops.io.dump(model(), tmp_path / "m.skops")
    (tmp_path / "empty.pkl").write_bytes(b"")
    (tmp_path / "torn.joblib").write_bytes(b"x\x9c nothing of the kind")

    assert store.add(tmp_path / "store", tmp_path / "m.skops", "m").notes == ()
    assert written_by.of_pickle(tmp_path / "empty.pkl") is None
    assert written_by.of_pickle(tmp_path / "torn.joblib") is None
    assert written_by.of_skops(tmp_path / "empty.pkl") is None


@pytest.mark.wide
@pytest.mark.parametrize("suffix", [".ubj", ".json"])
def test_an_xgboost_file_of_a_newer_version_is_reported(tmp_path: Path, suffix: str) -> None:
    xgboost = pytest.importorskip("xgboost")
    path = tmp_path / f"m{suffix}"
    xgboost.XGBClassifier(n_estimators=2, n_jobs=1).fit([[0.0], [1.0]], [0, 1]).save_model(path)
    own = written_by.of_xgboost(path, xgboost.__version__)
    assert own is not None
    assert not own.differs

    content = path.read_bytes()
    newer = b'"version":[99,' if suffix == ".json" else b"\x03i\x63"
    old = f'"version":[{xgboost.__version__.split(".")[0]},'.encode() if suffix == ".json" else b"\x03i\x03"
    at = content.rindex(old)
    path.write_bytes(content[:at] + newer + content[at + len(old) :])
    (note,) = store.add(tmp_path / "store", path, "m").notes
    assert note.startswith(f"written by XGBoost 99.{xgboost.__version__.partition('.')[2]}, installed is")

    path.write_bytes(path.read_bytes().replace(b"tree_param", b"tree_parrm"))
    with pytest.raises(StoreError, match=r"was not added: written by XGBoost 99\..*cannot be read"):
        store.add(tmp_path / "other", path, "m")


def test_a_file_that_fails_after_opening_is_refused_with_both_versions_too(tmp_path: Path) -> None:
    shutil.copy(OLD / "logistic.pkl", tmp_path / "m.pkl")
    writer = written_by.of_pickle(tmp_path / "m.pkl")

    with (
        pytest.raises(ModelError, match=rf"{BOTH}: AttributeError: no such thing"),
        written_by.prepend_versions_to_errors(writer),
    ):
        raise AttributeError("no such thing")


def test_an_onnx_file_that_does_not_load_is_refused_with_what_wrote_it(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node("Unheard", ["x"], ["y"])
    put = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 1]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "g", put[:1], put[1:])
    model = onnx.helper.make_model(graph, producer_name="pytorch", producer_version="9.9.1")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())

    with pytest.raises(StoreError, match=r"was not added: written by pytorch 9\.9\.1: m\.onnx cannot be loaded"):
        store.add(tmp_path / "store", tmp_path / "m.onnx", "m")

    (tmp_path / "m.onnx").write_bytes(b"\x08\x0a\x12\xff no model")
    with pytest.raises(StoreError, match=r"m\.onnx cannot be loaded"):
        store.add(tmp_path / "store", tmp_path / "m.onnx", "m")


def test_an_mlflow_folder_names_the_version_of_its_library(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text(
        "flavors:\n  sklearn:\n    pickled_model: model.pkl\n    sklearn_version: 1.5.2\n"
    )
    found = written_by.of_mlflow(tmp_path)

    assert str(found) == f"written by scikit-learn 1.5.2, installed is {sklearn.__version__}"
    (tmp_path / "MLmodel").write_text(f"flavors:\n  sklearn:\n    sklearn_version: {sklearn.__version__}\n")
    assert written_by.of_mlflow(tmp_path) is None
    assert written_by.of_mlflow(tmp_path / "absent") is None
