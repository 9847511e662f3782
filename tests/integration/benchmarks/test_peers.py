"""The benchmark beside other programs: those that need only this environment, and the check of what they stored."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy import Connection, Engine

from benchmarks.bench_stack import classifier, fill_items
from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.expected import Expected, expected
from benchmarks.peers.programs.task import Task, read_task
from benchmarks.peers.report import markdown
from benchmarks.peers.rounds import TARGET, make_target
from benchmarks.peers.running import program
from benchmarks.peers.workloads import WORKLOADS
from scorebeat.db.connect.engine import make_engine

ROWS = 40
OUTPUTS = ("label", "x", "y")


@pytest.fixture
def connection(empty_database: str) -> Iterator[Connection]:
    engine = make_engine(empty_database, "test")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as opened:
        yield opened
    engine.dispose()


@pytest.fixture
def right(connection: Connection) -> Expected:
    """Of three rows, which the target has."""
    make_target(connection, OUTPUTS)
    connection.exec_driver_sql(f"INSERT INTO {TARGET} VALUES (1, 'x', 0.75, 0.25), (2, 'y', 0.1, 0.9), (3, 'x', 1, 0)")
    return Expected(OUTPUTS, pa.array(["x", "y", "x"]), np.array([[0.75, 0.25], [0.1, 0.9], [1, 0]]))


def test_a_table_with_the_models_predictions_passes(right: Expected, empty_database: str) -> None:
    right.check(empty_database, TARGET, 3, "a peer")


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM {} WHERE id = 2", r"2 rows instead of 3; missing are \[2\]"),
        ("INSERT INTO {} VALUES (4, 'x', 1, 0)", "4 rows instead of 3"),
        ("UPDATE {} SET label = 'y' WHERE id = 3", "1 of 3 predictions are wrong; .* id 3"),
        ("UPDATE {} SET x = x + 1e-8 WHERE id = 1", "1 of 3 predictions are wrong; .* id 1"),
        ("UPDATE {} SET y = 'NaN'", "3 of 3 predictions are wrong; .* id 1"),
        ("UPDATE {} SET y = NULL WHERE id > 1", "2 of 3 predictions are wrong; .* id 2"),
        ("UPDATE {} SET label = NULL WHERE id > 1", "2 of 3 predictions are wrong; .* id 2"),
    ],
)
def test_a_wrong_or_missing_prediction_fails_the_benchmark(
    right: Expected, connection: Connection, empty_database: str, statement: str, message: str
) -> None:
    connection.exec_driver_sql(statement.format(TARGET))

    with pytest.raises(AssertionError, match=f"a peer: {message}"):
        right.check(empty_database, TARGET, 3, "a peer")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pandas_adbc", "pandas_sqlalchemy", "row_by_row", "celery_rows"])
def test_a_peer_stores_the_models_prediction_of_every_row(
    name: str, connection: Connection, empty_database: str, broker: str, tmp_path: Path
) -> None:
    engine: Engine = connection.engine
    fill_items(engine, ROWS)
    model = classifier()
    joblib.dump(model, tmp_path / "model.joblib")
    right = expected(empty_database, WORKLOADS["numeric"], model)
    make_target(connection, right.outputs)
    task = Task(
        url=empty_database, jdbc_url="", user="", password="", jdbc_jar="", broker_url=broker, source="items",
        trial="items", target=TARGET, inputs=("a", "b", "c", "d"), outputs=right.outputs,
        model=str(tmp_path / "model.joblib"), is_text=False, cores=1, batch_rows=16,
    )  # fmt: skip

    with program(Path(sys.executable), PEERS[name].module, task, tmp_path / "log") as one:
        connection.exec_driver_sql(f"TRUNCATE {TARGET}")
        assert one.seconds("items") > 0

    right.check(empty_database, TARGET, ROWS, name)


def test_a_program_that_cannot_start_fails_with_the_end_of_its_log(tmp_path: Path) -> None:
    task = read_task(json.dumps(_TASK))

    with (
        pytest.raises(AssertionError, match=r"(?s)did not start; the end of its log:.*No module named"),
        program(Path(sys.executable), "benchmarks.peers.programs.absent", task, tmp_path / "log"),
    ):
        pass


_TASK: dict[str, Any] = {
    "url": "", "jdbc_url": "", "user": "", "password": "", "jdbc_jar": "", "broker_url": "", "source": "", "trial": "",
    "target": "", "inputs": ["a"], "outputs": ["label", "x"], "model": "", "is_text": False, "cores": 1,
    "batch_rows": 1,
}  # fmt: skip


def test_the_table_has_each_peers_ratio_and_the_rows_that_it_scored() -> None:
    spread = {"median": 75.2, "least": 70.0, "most": 8.04}
    peer = {
        "rows": 40_000,
        "rows/s": {"median": 9_100},
        "scorebeat is faster by": spread,
        "versions": {"ray": "2.60.0"},
    }
    workload = {"rows": 1_500_000, "scorebeat, rows/s": {"median": 684_320}, "peers": {"ray_sql": peer}}

    lines = markdown({"workloads": {"numeric": workload}}).splitlines()

    assert f"| {PEERS['ray_sql'].title} | **75 x** (70 to 8.0) |" in lines
    assert f"| {PEERS['ray_sql'].title} | 9,100 over 40,000 |" in lines
    assert "| **Scorebeat** | 684,320 |" in lines
    assert lines[-1] == "ray 2.60.0"
