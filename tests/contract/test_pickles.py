"""Nothing in a pickle runs before a person allowed it; then it is a model like any other."""

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from scorebeat.core.errors import StoreError
from scorebeat.models.contract import NOTHING, AddOptions
from scorebeat.models.formats import registry
from scorebeat.models.formats.sklearn import pickle_format
from scorebeat.models.scoring import score_rows
from scorebeat.models.store import store

pytestmark = pytest.mark.wide(quick=3)

X, Y = load_iris(return_X_y=True)
ALLOWED = AddOptions(code=frozenset({"pickle"}))


class Trap:
    """Makes a folder of this name when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def refused(folder: Path, source: Path, message: str, options: AddOptions) -> str:
    with pytest.raises(StoreError, match=message) as error:
        store.add(folder / "store", source, "m", options)
    assert not list((folder / "store").iterdir())
    return str(error.value)


@pytest.mark.parametrize("suffix", [".pkl", ".pickle", ".joblib", ".PKL", ".dill", ".cloudpickle"])
@pytest.mark.parametrize("options", [NOTHING, AddOptions(code=frozenset({"mlflow"}), trusted=frozenset({"os.mkdir"}))])
def test_without_permission_no_code_of_the_file_runs(tmp_path: Path, suffix: str, options: AddOptions) -> None:
    source = tmp_path / f"m{suffix}"
    source.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))

    refused(tmp_path, source, "runs code .*not opened.*--allow-code pickle", options)
    with pytest.raises(StoreError, match="runs code"):
        pickle_format.inspect(source, options)
    assert not (tmp_path / "sprung").exists()

    refused(tmp_path, source, "NoneType, which has no predict", ALLOWED)
    assert (tmp_path / "sprung").exists()


@pytest.mark.wide
def test_the_conversion_that_is_offered_works(tmp_path: Path) -> None:
    model = LogisticRegression(max_iter=1000).fit(X, Y)
    joblib.dump(model, tmp_path / "it's a model.joblib")

    text = refused(tmp_path, tmp_path / "it's a model.joblib", "Convert it", NOTHING)
    offered = re.search(r"python (-c .*)\. Or add it", text)
    assert offered is not None
    subprocess.run(f"{sys.executable} {offered[1]}", shell=True, check=True, cwd=tmp_path)  # noqa: S602 -- our own text

    added = store.add(tmp_path / "store", tmp_path / "it's a model.skops", "m")
    found = score_rows.predict(registry.load(added), sample())
    assert found["label"].to_pylist() == model.predict(X[:5]).tolist()


def sample() -> pa.RecordBatch:
    values = pa.FixedSizeListArray.from_arrays(pa.array(X[:5].ravel()), 4)
    return pa.RecordBatch.from_arrays([values], names=["features"])


def test_a_function_that_cloudpickle_wrote_is_a_step_like_any_other(tmp_path: Path) -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    model = make_pipeline(FunctionTransformer(lambda x: x * 2), LogisticRegression(max_iter=1000)).fit(X, Y)
    (tmp_path / "m.cloudpickle").write_bytes(cloudpickle.dumps(model))

    added = store.add(tmp_path / "store", tmp_path / "m.cloudpickle", "m", ALLOWED)

    found = score_rows.predict(registry.load(added), sample())
    assert np.allclose(found["class_1"], model.predict_proba(X[:5])[:, 1], rtol=0, atol=1e-12)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"model": LogisticRegression().fit(X[:, :1], Y)}), "holds a dict, which has no predict"),
        (pickle.dumps(LogisticRegression(max_iter=1000).fit(X, Y))[:-9], r"cannot be read as a pickle: [^\n]*$"),
        (b"", r"cannot be read as a pickle: [^\n]*$"),
        (b"cabsent_package.things\nThing\n.", "refers to the module absent_package.*install the package"),
        (b"c__main__\nMyOwnStep\n.", "MyOwnStep.*write the file with cloudpickle"),
    ],
    ids=["dict", "cut off", "empty", "absent module", "class of a script"],
)
def test_a_pickle_that_cannot_be_used_is_refused_with_the_reason(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "m.pkl").write_bytes(content)

    refused(tmp_path, tmp_path / "m.pkl", message, ALLOWED)
