"""XGBoost and LightGBM files: missing values are missing, and what cannot be used is refused in one line."""

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from scorebeat.core.errors import ModelError, StoreError
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions
from scorebeat.models.formats import registry
from scorebeat.models.inputs.binding import bind
from scorebeat.models.scoring import score_rows
from scorebeat.models.store import store
from tests.contract import booster_files
from tests.contract.booster_files import BINARY, X, Y

pytestmark = pytest.mark.wide(slow=8)

FORMATS = ("xgboost", "lightgbm")
KINDS = {"xgboost": "XGB", "lightgbm": "LGBM"}


@pytest.fixture(params=FORMATS)
def library(request: pytest.FixtureRequest) -> str:
    if find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


def write(library: str, folder: Path, kind: str = "Classifier", y: Any = BINARY, **options: Any) -> Path:
    path, _ = getattr(booster_files, library)(f"{KINDS[library]}{kind}", y, **options)(folder)
    return Path(path)


def added(path: Path, **options: Any) -> Artifact:
    return store.add(path.parent / "store", path, "m", AddOptions(**options))


def scored(artifact: Artifact, columns: dict[str, Any]) -> list[list[Any]]:
    queried = pa.RecordBatch.from_pydict(columns)
    rows = bind(artifact.signature, queried.schema).apply(queried)
    return [[*row.values()] for row in score_rows.predict(registry.load(artifact), rows).to_pylist()]


def refused(path: Path, match: str, **options: Any) -> None:
    with pytest.raises(StoreError, match=match) as raised:
        added(path, **options)
    assert "\n" not in str(raised.value)
    assert not [*(path.parent / "store").glob("*")]


def with_gaps() -> Any:
    gaps = X.copy()
    gaps[::3, 2] = np.nan
    gaps[1::3, 0] = np.nan
    return gaps


def test_null_is_what_the_model_learnt_of_missing_values(library: str, tmp_path: Path) -> None:
    estimator = getattr(import_module(library), f"{KINDS[library]}Classifier")(n_estimators=9, random_state=0, n_jobs=1)
    estimator.fit(with_gaps(), Y)
    path = tmp_path / ("m.ubj" if library == "xgboost" else "m.lgb")
    getattr(estimator, "booster_", estimator).save_model(path)

    found = scored(added(path), {"values": [[None if np.isnan(v) else v for v in row] for row in with_gaps().tolist()]})

    wanted = np.column_stack([estimator.predict(with_gaps()), estimator.predict_proba(with_gaps())])
    assert np.allclose(np.array(found), wanted, atol=1e-6)
    assert len({row[0] for row in found}) == 3


def test_the_names_of_training_are_the_inputs_whatever_the_order_of_the_query(library: str, tmp_path: Path) -> None:
    module = import_module(library)
    names = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    if library == "xgboost":
        data = module.DMatrix(X, BINARY, feature_names=names)
        module.train({"objective": "binary:logistic"}, data, 3).save_model(tmp_path / "m.json")
    else:
        data = module.Dataset(X, BINARY, feature_name=names)
        module.train({"objective": "binary", "verbosity": -1}, data, 3).save_model(tmp_path / "m.json")
        (tmp_path / "m.json").rename(tmp_path / "m.txt")
    artifact = added(next(tmp_path.glob("m.*")))

    columns = {name: X[:, at].tolist() for at, name in enumerate(names)}

    assert [i.name for i in artifact.signature.inputs] == names
    assert scored(artifact, dict(reversed(columns.items()))) == scored(artifact, {"values": X.tolist()})


def test_options_that_do_not_fit_the_model_are_refused(library: str, tmp_path: Path) -> None:
    path = write(library, tmp_path)

    refused(path, "wants 4 inputs, but --inputs names 2: a, b", inputs=("a", "b"))
    refused(path, "d string: trees take numbers only", inputs=("a", "b", "c", "d:string"))
    refused(path, "has 2 classes, but --classes names 3", classes=("a", "b", "c"))
    refused(path, "xmin", outputs=("xmin", "b"))
    refused(write(library, tmp_path, "Regressor"), "is no classifier: leave --classes out", classes=("a", "b"))


def test_damaged_files_are_refused_in_one_line_even_if_the_library_ends_the_process(
    library: str, tmp_path: Path
) -> None:
    for suffix in {"xgboost": (".ubj", ".json"), "lightgbm": (".lgb",)}[library]:
        path = write(library, tmp_path, suffix=suffix)
        whole = path.read_bytes().partition(b"\nend of trees")[0]
        for content in (whole[: len(whole) // 3], whole[:-40]):
            path.write_bytes(content)
            refused(path, f"m{suffix} was not added: m{suffix} cannot be read by (XGBoost|LightGBM) .*damaged")


def test_a_process_that_the_library_ends_is_reported_with_its_signal(tmp_path: Path) -> None:
    boosters = import_module("scorebeat.models.formats.boosters.boosters")
    (tmp_path / "m.ubj").touch()

    with pytest.raises(
        ModelError, match=r"m\.ubj cannot be read by trees 1: reading it ended the process with SIGSEGV"
    ):
        boosters.try_to_open("import os; os.kill(os.getpid(), 11)", tmp_path / "m.ubj", "trees 1")


OTHERS: dict[str, tuple[str, str, str]] = {
    "another JSON": ("m.json", '{"a": 1}', "cannot be read by XGBoost .* no such model"),
    "a list in JSON": ("m.json", "[1, 2]", "cannot be read by XGBoost .* no such model"),
    "no JSON": ("m.json", "hello", "cannot be read by XGBoost"),
    "a text": ("m.txt", "Dear reader,\n", "is not a LightGBM model, whose first line is `tree`"),
    "an empty file": ("m.lgb", "", "is not a LightGBM model"),
    "an empty .ubj": ("m.ubj", "", "cannot be read by XGBoost"),
}


@pytest.mark.parametrize("title", OTHERS)
def test_a_file_that_is_no_such_model_is_refused(tmp_path: Path, title: str) -> None:
    name, content, match = OTHERS[title]
    pytest.importorskip("lightgbm" if "LightGBM" in match else "xgboost")
    (tmp_path / name).write_text(content)

    refused(tmp_path / name, match)


def test_adding_and_loading_without_the_package_name_the_command_to_install_it(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(library, tmp_path)
    artifact = added(path)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"scorebeat.models.formats.boosters.{library}_format")

    attempts: tuple[Callable[[], object], ...] = (lambda: added(path), lambda: registry.load(artifact))
    for attempt, error in zip(attempts, (StoreError, ModelError), strict=True):
        with pytest.raises(error, match=rf"needs the package {library}.*: pip install 'scorebeat\[{library}\]'"):
            attempt()
