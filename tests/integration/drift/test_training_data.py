"""`models add --reference` and `--golden`: runs are compared with training data, and workers with known outputs."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LinearRegression
from sqlalchemy import Engine, text

from scorebeat.core.settings import Settings
from scorebeat.db.ledger.evidence import profiles
from scorebeat.producer.context import Producer
from tests.support.cli_fixtures import JOB, Cli, score_all

pytestmark = pytest.mark.slow(quick=4)

ADD = ("--name", "adder", "--outputs", "total")


def training(rows: int, mean: float = 0.0) -> pa.Table:
    random = np.random.default_rng(3)
    a, b = random.normal(mean, size=rows), random.normal(size=rows)
    return pa.table({"a": a, "b": b, "total": a + b})


def fill(engine: Engine, rows: int, mean: float) -> None:
    found = training(rows, mean)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE pairs (id bigint PRIMARY KEY, a float8, b float8)")
        connection.execute(
            text("INSERT INTO pairs VALUES (:id, :a, :b)"),
            [
                {"id": i, "a": a, "b": b}
                for i, (a, b) in enumerate(zip(found["a"].to_pylist(), found["b"].to_pylist(), strict=True), 1)
            ],
        )


def reasons(producer: Producer, run_id: int) -> dict[str, str]:
    with producer.engine.connect() as connection:
        found = profiles.compared(connection, run_id)
    assert found is not None
    assert found.why_not is None
    return {f"{one.side} {one.name}": "; ".join(one.reasons) for one in found.drifted}


@pytest.mark.parametrize("suffix", ["csv", "parquet", "query"])
def test_the_first_run_is_compared_with_the_training_data(
    engine: Engine, producer: Producer, settings: Settings, scorebeat: Cli, adder: Path, tmp_path: Path, suffix: str
) -> None:
    fill(engine, 2_000, mean=1.0)
    file = tmp_path / f"training.{suffix}"
    table = training(2_000)
    if suffix == "csv":
        pyarrow.csv.write_csv(table, file)
    elif suffix == "parquet":
        pq.write_table(table, file)
    options = ("--reference", str(file))
    if suffix == "query":
        options = ("--reference-query", "SELECT a - 1 AS a, b, 'unused' AS c FROM pairs;")
    assert scorebeat("models", "add", str(adder), *ADD, *options).exit_code == 0
    settings.jobs.write_text(JOB.replace("batch_rows = 40", ""))
    assert scorebeat("apply").exit_code == 0
    run_id = int(re.findall("run ([0-9]+)", scorebeat("enqueue", "sums").output)[0])
    score_all(producer, run_id)

    found = reasons(producer, run_id)
    assert set(found) == {"input a", "output total"}
    assert "standard deviations" in found["input a"]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (training(3), "training.csv has 3 rows"),
        (training(200).drop_columns(["b"]), "it has no column b"),
        (training(200).set_column(1, "b", pa.array(["x"] * 200)), "cannot be read"),
    ],
)
def test_a_reference_that_does_not_fit_adds_nothing(
    scorebeat: Cli, adder: Path, tmp_path: Path, table: pa.Table, expected: str
) -> None:
    pyarrow.csv.write_csv(table, tmp_path / "training.csv")
    refused = scorebeat("models", "add", str(adder), *ADD, "--reference", "training.csv")
    assert refused.exit_code != 0
    assert expected in " ".join(refused.output.split())
    assert "there are no models yet" in scorebeat("models", "list").output


def test_a_worker_that_computes_other_values_than_golden_rows_refuses_the_version(
    engine: Engine, producer: Producer, settings: Settings, scorebeat: Cli, adder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    fill(engine, 50, mean=0.0)
    pq.write_table(training(20), tmp_path / "golden.parquet")
    added = scorebeat("models", "add", str(adder), *ADD, "--golden", "golden.parquet")
    assert "agrees with its 20 golden rows" in " ".join(added.output.split())
    settings.jobs.write_text(JOB)
    assert scorebeat("apply").exit_code == 0

    run_id = int(re.findall("run ([0-9]+)", scorebeat("enqueue", "sums").output)[0])
    with monkeypatch.context() as patched:
        # as if the library of this worker computed otherwise
        usual = LinearRegression.predict
        patched.setattr(LinearRegression, "predict", lambda self, x: usual(self, x) + 1e-6)
        score_all(producer, run_id)
    with engine.connect() as connection:
        errors = list(connection.execute(text("SELECT DISTINCT error FROM scorebeat.batches")).scalars())
    assert "returns other values than its golden rows have, for 20 of 20: row 1 gives" in errors[0]
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM predictions.sums")).scalar_one() == 0
        refused = "SELECT DISTINCT details ->> 'is_refused' FROM scorebeat.actions WHERE action = 'model.cannot_load'"
        assert connection.execute(text(refused)).scalar_one() == "true"


def test_golden_rows_that_the_model_does_not_return_are_refused(scorebeat: Cli, adder: Path, tmp_path: Path) -> None:
    table = training(20)
    pq.write_table(table.set_column(2, "total", pa.array(np.arange(20.0))), tmp_path / "golden.parquet")
    refused = scorebeat("models", "add", str(adder), *ADD, "--golden", "golden.parquet")
    assert refused.exit_code != 0
    assert "other values than its golden rows have" in " ".join(refused.output.split())
    pq.write_table(table.drop_columns(["total"]), tmp_path / "golden.parquet")
    refused = scorebeat("models", "add", str(adder), *ADD, "--golden", "golden.parquet")
    assert "it has no column total" in " ".join(refused.output.split())
