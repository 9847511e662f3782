"""Every model format obeys one contract: as many predictions as rows, in order, equal to a plain loop."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from scorebeat.core.errors import InputError
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions, Model
from scorebeat.models.formats import registry
from scorebeat.models.inputs.binding import bind
from scorebeat.models.scoring import score_rows
from scorebeat.models.scoring.micro_batches import MicroBatches
from scorebeat.models.store import store
from tests.contract.format_cases import CASES, Case, Loop, X

pytestmark = pytest.mark.wide(slow=20, quick=160)


@dataclass(frozen=True)
class Loaded:
    title: str
    artifact: Artifact
    model: Model
    rows: pa.RecordBatch
    loop: Loop
    outputs: list[str]

    @property
    def tolerance(self) -> float:
        """float32 sums depend on how many rows are summed at once."""
        return 1e-5 if self.artifact.format in ("onnx", "torch", "xgboost") else 1e-12


@pytest.fixture(scope="module")
def add_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Loaded]:
    """Adds a case when the first test needs it."""
    folder, names = tmp_path_factory.mktemp("formats"), list(CASES)
    return cache(lambda title: added(title, folder, f"m{names.index(title)}"))


@pytest.fixture(params=CASES)
def loaded(request: pytest.FixtureRequest, add_once: Callable[[str], Loaded]) -> Loaded:
    if not is_here(CASES[request.param]):
        pytest.skip(f"{CASES[request.param].needs} is not installed")
    return add_once(request.param)


def is_here(case: Case) -> bool:
    return not case.needs or find_spec(case.needs) is not None


def added(title: str, folder: Path, name: str) -> Loaded:
    case = CASES[title]
    (folder / name).mkdir()
    path, loop = case.write(folder / name)
    artifact = store.add(folder / "store", path, name, AddOptions(case.inputs, classes=case.classes, code=case.code))
    rows = bound(artifact, X.tolist(), case)
    return Loaded(title, artifact, registry.load(artifact), rows, loop, case.outputs)


def bound(artifact: Artifact, table: list[list[Any]], case: Case) -> pa.RecordBatch:
    queried = case.query(table)
    return bind(artifact.signature, queried.schema).apply(queried)


def test_predictions_equal_a_plain_loop_over_the_rows_in_their_order(loaded: Loaded) -> None:
    predicted = score_rows.predict(loaded.model, loaded.rows)

    assert predicted.num_rows == len(X)
    for at in range(0, len(X), 7):
        found = [*predicted.slice(at, 1).to_pylist()[0].values()]
        assert_same(found, loaded.loop(X[at : at + 1]), loaded.tolerance)


def assert_same(found: Sequence[Any], wanted: Sequence[Any], tolerance: float) -> None:
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert a == (b if isinstance(b, str | bool) else pytest.approx(b, rel=tolerance, abs=tolerance))


def test_the_outputs_are_exactly_those_of_the_signature(loaded: Loaded) -> None:
    predicted = loaded.model.predict(loaded.rows.slice(0, 5))

    assert loaded.artifact.signature.outputs.names == loaded.outputs
    assert score_rows.predict(loaded.model, loaded.rows).schema.equals(loaded.artifact.signature.outputs)
    assert predicted.schema.names == loaded.outputs


@pytest.mark.parametrize("rows", [0, 1])
def test_no_row_and_one_row_are_scored_like_any_others(loaded: Loaded, rows: int) -> None:
    predicted = score_rows.predict(loaded.model, loaded.rows.slice(3, rows))

    assert predicted.schema.equals(loaded.artifact.signature.outputs)
    assert_close(predicted, score_rows.predict(loaded.model, loaded.rows).slice(3, rows), loaded.tolerance)


@pytest.mark.parametrize("size", [1, 7, 64, 150, 1000])
def test_micro_batches_change_nothing(loaded: Loaded, size: int) -> None:
    rows = loaded.rows.slice(0, 40)

    whole = score_rows.predict(loaded.model, rows)
    parts = MicroBatches(loaded.model, size).predict(rows)

    assert_close(parts, whole, loaded.tolerance)


def assert_close(found: pa.RecordBatch, wanted: pa.RecordBatch, tolerance: float) -> None:
    assert found.schema == wanted.schema
    for a, b in zip(found.to_pylist(), wanted.to_pylist(), strict=True):
        assert_same([*a.values()], [*b.values()], tolerance)


AGAIN = """
import sys
from pathlib import Path
import pyarrow as pa
from scorebeat.models.formats import registry
from scorebeat.models.scoring import score_rows
from scorebeat.models.store import store
for line in sys.stdin.read().splitlines():
    folder, digest = Path(line.split()[0]), line.split()[1]
    artifact = store.open_artifact(folder.parents[1], folder.parent.name, int(folder.name), digest)
    rows = pa.ipc.open_file(f"{sys.argv[1]}/{artifact.name}.rows").read_all().combine_chunks().to_batches()[0]
    predicted = score_rows.predict(registry.load(artifact), rows)
    with pa.ipc.new_file(f"{sys.argv[1]}/{artifact.name}.predicted", predicted.schema) as out:
        out.write_batch(predicted)
"""


def test_a_fresh_process_returns_the_same_predictions(add_once: Callable[[str], Loaded], tmp_path: Path) -> None:
    every = {title: add_once(title) for title in CASES if is_here(CASES[title])}
    for loaded in every.values():
        with pa.ipc.new_file(tmp_path / f"{loaded.artifact.name}.rows", loaded.rows.schema) as out:
            out.write_batch(loaded.rows)
    lines = "\n".join(f"{one.artifact.folder} {one.artifact.digest}" for one in every.values())

    subprocess.run(
        [sys.executable, "-c", AGAIN, str(tmp_path)],
        input=lines.encode(),
        check=True,
        cwd=Path(__file__).parents[2],
    )

    for title, loaded in every.items():
        predicted = pa.ipc.open_file(tmp_path / f"{loaded.artifact.name}.predicted").get_batch(0)
        assert predicted.equals(score_rows.predict(loaded.model, loaded.rows)), title


def test_null_is_refused_by_column_unless_the_model_takes_it(loaded: Loaded) -> None:
    rows = bound(loaded.artifact, [[None, *row[1:]] for row in X[:4].tolist()], CASES[loaded.title])
    takes = any(
        word in loaded.title
        for word in ("imputer", "boosting", "forest", "integer", "outliers", "xgboost", "lightgbm", "onnx", "torch")
    )

    if takes:
        assert score_rows.predict(loaded.model, rows).num_rows == 4
    else:
        with pytest.raises(InputError, match=f"{rows.schema.names[0]} has 4 NULL"):
            score_rows.predict(loaded.model, rows)


def test_a_pipeline_that_imputes_receives_null_as_nan(add_once: Callable[[str], Loaded]) -> None:
    imputer = add_once("skops imputer")
    rows = bound(imputer.artifact, [[None, *X[0, 1:].tolist()]], CASES["skops imputer"])

    found = [*score_rows.predict(imputer.model, rows).to_pylist()[0].values()]

    assert_same(found, imputer.loop(np.array([[np.nan, *X[0, 1:]]])), imputer.tolerance)


def test_a_label_equals_predicts_even_if_rounding_ties_the_probabilities(tmp_path: Path) -> None:
    model = LogisticRegression().fit([[-1.0], [1.0]], ["no", "yes"])
    skops.io.dump(model, tmp_path / "m.skops")
    artifact = store.add(tmp_path / "store", tmp_path / "m.skops", "m")
    scores = np.array([[0.0], [1e-17], [-1e-17], [1e-3], [-1e-3]]) - model.intercept_ / model.coef_
    rows = bound(artifact, scores.tolist(), CASES["skops classifier"])

    labels = score_rows.predict(registry.load(artifact), rows).column("label").to_pylist()

    assert labels == model.predict(scores).tolist()
