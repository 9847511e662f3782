"""A model of texts is scored by its compiled engine, end to end, with the predictions of its library."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sqlalchemy import Engine, text

from scorebeat.core.settings import Settings
from scorebeat.db.ledger import model_versions
from scorebeat.models.formats import registry
from scorebeat.producer.context import Producer
from scorebeat.producer.versions import publish as publishing
from tests.contract.text_models import CORPUS
from tests.support.cli_fixtures import Cli, scorebeat
from tests.support.fixtures import Programs

__all__ = ["scorebeat"]

ROWS = 200
JOB = """
[jobs.reviews]
query = "SELECT id, review, age FROM reviews"
key = "id"
model = "mood"
batch_rows = 60
"""


def frame() -> pd.DataFrame:
    """Texts of the corpus in another order, some of them with a letter that goes to scikit-learn."""
    draw = np.random.default_rng(3)
    words = " ".join(CORPUS).split()
    texts = [" ".join(draw.choice(words, 12)) + (" ΟΔΟΣ" if at % 50 == 7 else "") for at in range(ROWS)]
    return pd.DataFrame({"review": texts, "age": draw.integers(18, 90, ROWS).astype(float)})


def model(**options: Any) -> Any:
    rows = frame()
    parts = make_column_transformer((TfidfVectorizer(**options), "review"), (StandardScaler(), ["age"]))
    return make_pipeline(parts, LogisticRegression()).fit(rows, np.arange(ROWS) % 3)


@pytest.fixture
def file(tmp_path: Path, engine: Engine, settings: Settings) -> Path:
    """The model's file, a table of its rows, one of them NULL, and the job."""
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE reviews (id bigint PRIMARY KEY, review text, age float8)")
        rows = [{"id": at, **row} for at, row in enumerate(frame().to_dict("records"))]
        rows.append({"id": ROWS, "review": None, "age": 30.0})
        connection.execute(text("INSERT INTO reviews VALUES (:id, :review, :age)"), rows)
    settings.jobs.write_text(JOB)
    skops.io.dump(model(ngram_range=(1, 2)), tmp_path / "mood.skops")
    return tmp_path / "mood.skops"


def test_a_worker_scores_texts_compiled_and_equal_to_the_library(
    file: Path, scorebeat: Cli, programs: Programs, engine: Engine
) -> None:
    added = scorebeat("models", "add", str(file), "--name", "mood")
    (listed,) = json.loads(scorebeat("models", "list", "--json").output)
    scorebeat("apply")
    programs.control()
    programs.worker("cpu")
    scorebeat("enqueue", "reviews", "--wait")

    assert "\nengine   compiled; rows/s over 8 rows: compiled " in added.output
    assert (listed["engine"], listed["engine_choice"]["rows"]) == ("compiled", 8)
    assert "model.loaded model=mood/1 engine=compiled" in programs.logs()
    with engine.connect() as connection:
        found = pd.read_sql("SELECT * FROM predictions.reviews ORDER BY id", connection)
        quarantined = connection.execute(text("SELECT key->>0 FROM scorebeat.quarantine")).scalars().all()
    own = model(ngram_range=(1, 2))
    assert found["id"].tolist() == [*range(ROWS)]
    assert found["label"].tolist() == own.predict(frame()).tolist()
    chances = found[["class_0", "class_1", "class_2"]].to_numpy()
    assert np.allclose(chances, own.predict_proba(frame()), rtol=0, atol=1e-12)
    assert quarantined == [str(ROWS)]


def test_a_person_names_the_engine_also_of_a_version_that_exists(
    file: Path, scorebeat: Cli, producer: Producer
) -> None:
    def engine_of_first() -> str:
        with producer.engine.connect() as connection:
            return model_versions.get(connection, "mood", 1).engine

    compiled = scorebeat("models", "add", str(file), "--name", "mood", "--engine", "compiled")
    assert "engine   compiled, as --engine names it; rows/s" in compiled.output
    assert engine_of_first() == "compiled"
    native = scorebeat("models", "add", str(file), "--name", "mood", "--engine", "native")
    assert "model mood/1 is there already" in native.output
    assert "engine   native, as --engine names it" in native.output
    assert engine_of_first() == "native"
    scorebeat("models", "add", str(file), "--name", "mood")
    assert engine_of_first() == "native"


def test_a_model_that_is_not_compiled_has_its_reason_and_no_such_engine(tmp_path: Path, scorebeat: Cli) -> None:
    skops.io.dump(model(analyzer="char", ngram_range=(2, 3)), tmp_path / "letters.skops")

    kept = scorebeat("models", "add", str(tmp_path / "letters.skops"), "--name", "letters")
    refused = scorebeat("models", "add", str(tmp_path / "letters.skops"), "--name", "other", "--engine", "compiled")

    reason = "its TfidfVectorizer has analyzer='char', and not 'word'"
    assert f"engine   native: not compiled, for {reason}" in kept.output
    assert f"was not added: --engine compiled cannot be used: {reason}" in " ".join(refused.output.split())
    assert refused.exit_code != 0


def test_a_worker_without_numba_scores_with_scikit_learn_and_logs_it(
    file: Path, producer: Producer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    artifact = publishing.add(producer, file, "mood", "test").artifact
    for name in ("kernels", "machine_code", "engine"):
        monkeypatch.delitem(sys.modules, f"scorebeat.models.formats.sklearn.compiled.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)

    with caplog.at_level("WARNING", "scorebeat"):
        loaded: Any = registry.load(artifact, "cpu", artifact.engine.engine, producer.settings.cache)

    assert (artifact.engine.engine, loaded.engine) == ("compiled", "native")
    assert [record.getMessage() for record in caplog.records] == ["engine.unavailable"]


def test_golden_rows_hold_for_the_compiled_engine(file: Path, scorebeat: Cli, tmp_path: Path) -> None:
    golden = frame().head(20)
    golden[["class_0", "class_1", "class_2"]] = model(ngram_range=(1, 2)).predict_proba(golden)
    golden["label"] = golden[["class_0", "class_1", "class_2"]].to_numpy().argmax(axis=1)
    golden.to_parquet(tmp_path / "golden.parquet")

    added = scorebeat("models", "add", str(file), "--name", "mood", "--golden", str(tmp_path / "golden.parquet"))

    assert "engine   compiled" in added.output
    assert "it agrees with its 20 golden rows" in added.output
