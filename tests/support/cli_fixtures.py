"""Running `scorebeat` inside the test's process, and a small job to run it on."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import skops.io
from click.testing import CliRunner, Result
from sklearn.linear_model import LinearRegression
from sqlalchemy import Engine, text

from scorebeat.core.errors import ScorebeatError
from scorebeat.core.settings import PREFIX, Settings
from scorebeat.db.reports import status
from scorebeat.ops.cli.app import cli
from scorebeat.producer.context import Producer
from scorebeat.producer.control.plan import plan
from scorebeat.producer.control.upkeep.settle import settle_all
from scorebeat.worker.scoring.runtime import Runtime
from scorebeat.worker.scoring.score import score_batch
from tests.support.fixtures import environment


class Output(Result):
    """A result that a failed assertion shows with the command's words, not with an exit code alone."""

    def __repr__(self) -> str:
        return f"<exit code {self.exit_code}: {self.output}>"


Cli = Callable[..., Output]

JOB = """
[jobs.sums]
query = "SELECT id, a, b FROM pairs"
key = "id"
model = "adder"
batch_rows = 40
"""
ROWS = 100


@pytest.fixture
def scorebeat(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """`scorebeat("runs", "--json")`, with the test's settings; no command may end with a stack trace."""
    for name, value in environment(settings).items():
        if name.startswith(PREFIX):
            monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Output:
        result = Output(**vars(CliRunner().invoke(cli, list(arguments), prog_name="scorebeat")))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        assert "Traceback" not in result.output
        return result

    return run


@pytest.fixture(scope="session")
def adder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that adds a and b."""
    return write_adder(tmp_path_factory.mktemp("adder") / "adder.skops", "a", "b")


@pytest.fixture
def pairs(engine: Engine) -> None:
    """A table of 100 rows."""
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE pairs (id bigint PRIMARY KEY, a float8, b float8)")
        connection.exec_driver_sql(f"INSERT INTO pairs SELECT i, i, 2 * i FROM generate_series(1, {ROWS}) i")


@pytest.fixture
def job(request: pytest.FixtureRequest, scorebeat: Cli, adder: Path, settings: Settings) -> str:
    """The job `sums`, applied, with its model."""
    request.getfixturevalue("pairs")
    settings.jobs.write_text(JOB)
    assert scorebeat("models", "add", str(adder), "--name", "adder", "--outputs", "total").exit_code == 0
    assert scorebeat("apply").exit_code == 0
    return "sums"


def write_adder(path: Path, *names: str, slope: float = 1.0) -> Path:
    """A linear model, trained on columns of these names."""
    x = np.random.default_rng(1).normal(size=(50, len(names)))
    named = pa.table(dict(zip(names, x.T, strict=True)))
    skops.io.dump(LinearRegression().fit(named, slope * x.sum(axis=1)), path)
    return path


def score_all(producer: Producer, run_id: int) -> None:
    """Plan and score a run in this process, as control and workers would."""
    plan(producer, run_id)
    with producer.engine.connect() as connection:
        batches = [batch["id"] for batch in status.batches(connection, run_id)]
    w = Runtime(producer.settings, "test")
    try:
        for batch in batches:
            with suppress(ScorebeatError):  # the ledger has it
                score_batch(batch, w)
    finally:
        w.close()
    settle_all(producer)


@contextmanager
def scoring(producer: Producer) -> Iterator[None]:
    """Plans and scores whatever is enqueued meanwhile, in a thread."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            with producer.engine.connect() as connection:
                opened = [line.id for line in status.newest(connection, 5) if line.state == "planning"]
            for run_id in opened:
                score_all(producer, run_id)
            time.sleep(0.02)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def refused(result: Result, *words: str) -> str:
    """The message of a command that ended with 2."""
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("error:") == 1
    for word in words:
        assert word in result.stderr
    return result.stderr


def ledger(engine: Engine) -> tuple[object, ...]:
    """The counts of rows that must not change when something is refused."""
    with engine.connect() as connection:
        return tuple(
            connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
            for table in ("scorebeat.jobs", "scorebeat.runs", "scorebeat.model_versions", "scorebeat.prediction_sets")
        )
