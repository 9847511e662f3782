"""Ten models that people have, as their libraries write them: each row gets a plain loop's prediction."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor, RandomForestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sqlalchemy import text

from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.models.contract import AddOptions
from scorebeat.producer.requests.apply import apply
from scorebeat.producer.versions import publish
from tests.contract import booster_files, sklearn_files
from tests.contract.format_cases import COUNTED, FOUR, NUMBERS, PROBABILITIES, SPECIES, Case, Loop, X, skops_of
from tests.contract.onnx_files import zipmap_classifier
from tests.contract.test_formats import assert_same, is_here
from tests.support.source_tables import BIGINT, INPUTS, fill
from tests.support.system import System, own_system

pytestmark = pytest.mark.wide

ROWS = 300
CALIBRATED = make_pipeline(StandardScaler(), CalibratedClassifierCV(LinearSVC(), cv=3))
TEN = {
    "scaler_svc": Case(skops_of(make_pipeline(StandardScaler(), SVC()), SPECIES), ["label"], FOUR),
    "forest": Case(skops_of(RandomForestClassifier(10, random_state=0), NUMBERS), COUNTED, FOUR),
    "boosting": Case(
        skops_of(GradientBoostingClassifier(n_estimators=5, random_state=0), SPECIES), PROBABILITIES, FOUR
    ),
    "columns_with_strings": Case(sklearn_files.COLUMNS_CLASSIFIER, PROBABILITIES),
    "multi_output": Case(
        skops_of(MultiOutputRegressor(GradientBoostingRegressor(n_estimators=5)), X[:, :2]),
        ["value_0", "value_1"],
        FOUR,
    ),
    "calibrated": Case(skops_of(CALIBRATED, SPECIES), PROBABILITIES, FOUR),
    "kmeans": Case(
        skops_of(make_pipeline(StandardScaler(), KMeans(3, n_init=1, random_state=0)), None), ["label"], FOUR
    ),
    "xgboost": Case(booster_files.xgboost("XGBClassifier", NUMBERS), COUNTED, FOUR, needs="xgboost"),
    "lightgbm": Case(booster_files.lightgbm("LGBMClassifier", NUMBERS), COUNTED, FOUR, needs="lightgbm"),
    "onnx_zipmap": Case(zipmap_classifier, PROBABILITIES, FOUR),
}
FLOAT32 = ("xgboost", "onnx_zipmap")


@dataclass(frozen=True)
class Scoring:
    """A system that scores one table with all ten models; a loop and a run for each."""

    system: System
    loops: dict[str, Loop]
    runs: dict[str, int]


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scoring]:
    folder = tmp_path_factory.mktemp("ten")
    with own_system(folder) as system:
        system.programs.control()
        system.programs.worker("cpu")
        fill(system.engine, "measured", BIGINT, 0, ROWS)
        with system.engine.begin() as connection:
            connection.execute(text("ALTER TABLE measured ADD width text"))
            connection.execute(text("UPDATE measured SET width = CASE WHEN d < 0.8 THEN 'thin' ELSE 'broad' END"))
        here = {name: case for name, case in TEN.items() if is_here(case)}
        loops = {name: added(system, name, case, folder) for name, case in here.items()}
        query = f"SELECT id, {', '.join(INPUTS)}, width FROM measured"
        jobs = [Job(name=name, query=query, key=("id",), model=name, batch_rows=ROWS // 3) for name in here]
        apply(system.p, jobs, "test")
        yield Scoring(system, loops, {job.name: system.enqueue(job) for job in jobs})


def added(system: System, name: str, case: Case, folder: Path) -> Loop:
    (folder / name).mkdir()
    path, loop = case.write(folder / name)
    publish.add(system.p, path, name, "test", AddOptions(case.inputs))
    return loop


@pytest.mark.parametrize("name", TEN)
def test_a_worker_predicts_for_each_row_what_a_plain_loop_over_the_model_does(ten: Scoring, name: str) -> None:
    if not is_here(TEN[name]):
        pytest.skip(f"{TEN[name].needs} is not installed")
    outputs = ", ".join(TEN[name].outputs)

    state = ten.system.until_finished(ten.runs[name], within=90.0)

    assert state is RunState.SUCCEEDED
    rows = ten.system.query(f"SELECT id, {', '.join(INPUTS)} FROM measured ORDER BY id")
    found = ten.system.query(f"SELECT id, {outputs} FROM predictions.{name} ORDER BY id")
    assert [key for key, *_ in found] == [key for key, *_ in rows]
    assert len(rows) == ROWS
    for (_, *predicted), (_, *values) in zip(found, rows, strict=True):
        assert_same(predicted, ten.loops[name](np.array([values])), 1e-5 if name in FLOAT32 else 1e-12)
