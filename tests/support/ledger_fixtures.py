"""A ledger that a test fills by hand, and runs driven in the test's own process, without worker processes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import skops.io
from numpy.typing import NDArray
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sqlalchemy import Connection, Engine, text

from scorebeat.core.data_folder import StackUrls
from scorebeat.core.jobs.job import Job
from scorebeat.core.settings import Settings
from scorebeat.db.connect.engine import make_engine
from scorebeat.db.ledger import jobs, model_versions, runs
from scorebeat.db.ledger.batches import BatchId
from scorebeat.db.ledger.model_versions import NewVersion
from scorebeat.db.ledger.runs import Run
from scorebeat.db.predictions import prediction_sets
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.schema import migrate
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions
from scorebeat.models.store import store
from scorebeat.producer.context import Producer
from scorebeat.producer.control.plan import plan
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.worker.scoring.runtime import Runtime
from scorebeat.worker.scoring.score import Outcome, score_batch
from tests.support import fixtures
from tests.support.ledger_rows import MODEL

OUTPUTS = ("label", "p0", "p1", "p2")
ITEMS = "CREATE TABLE items (id bigint PRIMARY KEY, a float8 NOT NULL, b float8 NOT NULL)"
FILL = "INSERT INTO items SELECT n, 4 + n % 40 / 10.0, 2 + n % 7 / 3.0 FROM generate_series({first}, {last}) AS n"


@dataclass(frozen=True)
class Trained:
    """The estimator, and its artifact in a store of the session."""

    estimator: Any
    artifact: Artifact

    def of(self, rows: Sequence[Sequence[float]]) -> list[list[float]]:
        """Label and three probabilities of each row, from the estimator alone."""
        values: NDArray[np.float64] = np.array(rows, dtype=np.float64).reshape(len(rows), 2)
        return [
            [float(label), *chances.tolist()]
            for label, chances in zip(self.estimator.predict(values), self.estimator.predict_proba(values), strict=True)
        ]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A small classifier of two inputs, `a` and `b`."""
    folder = tmp_path_factory.mktemp("models")
    iris = load_iris()
    fitted = LogisticRegression(max_iter=500).fit(iris.data[:, :2], iris.target)
    skops.io.dump(fitted, folder / "m.skops")
    return Trained(fitted, store.add(folder / "store", folder / "m.skops", MODEL, AddOptions(tuple("ab"), OUTPUTS)))


@dataclass
class Ledger:
    """One database with a model; everything runs in this process."""

    producer: Producer
    trained: Trained
    settings: Settings
    runtime: Runtime = field(init=False)

    def __post_init__(self) -> None:
        self.runtime = Runtime(self.settings, name="w1")

    @property
    def engine(self) -> Engine:
        return self.producer.engine

    def sql(self, statement: str, **values: Any) -> list[Any]:
        """Run one statement and commit; single columns come as values, others as tuples."""
        with self.engine.begin() as connection:
            result = connection.execute(text(statement), values) if values else connection.exec_driver_sql(statement)
            rows = [tuple(row) for row in result] if result.returns_rows else []
        return [row[0] if len(row) == 1 else row for row in rows]

    def apply(self, job: Job) -> Job:
        """Apply this job beside the existing ones."""
        with self.engine.begin() as connection:
            others = [row.job for row in jobs.listing(connection) if row.job.name != job.name]
            jobs.apply(connection, [*others, job], "test")
        return job

    def enqueue(self, job: Job, **options: Any) -> int:
        self.apply(job)
        return enqueue(self.producer, Request(job.name, "test", **options)).run_id

    def planned(self, job: Job, **options: Any) -> int:
        """A new run of the job, planned."""
        run_id = self.enqueue(job, **options)
        plan(self.producer, run_id)
        return run_id

    def scored(self, job: Job, **options: Any) -> int:
        """A new run of the job, planned and scored to its end."""
        run_id = self.planned(job, **options)
        assert set(self.score(run_id)) <= {Outcome.COMMITTED}
        assert self.run(run_id).state == "succeeded"
        return run_id

    def score(self, run_id: int) -> list[Outcome]:
        return [score_batch(batch_id, self.runtime) for batch_id in self.batch_ids(run_id)]

    def score_one(self, batch_id: BatchId) -> Outcome:
        return score_batch(batch_id, self.runtime)

    def run(self, run_id: int) -> Run:
        with self.engine.connect() as connection:
            return runs.get(connection, run_id)

    def batch_ids(self, run_id: int) -> list[BatchId]:
        return self.sql("SELECT id FROM scorebeat.batches WHERE run_id = :id ORDER BY number", id=run_id)

    def batch(self, batch_id: BatchId) -> dict[str, Any]:
        with self.engine.connect() as connection:
            found = connection.execute(text("SELECT * FROM scorebeat.batches WHERE id = :id"), {"id": batch_id})
            return dict(found.one()._mapping)

    def target(self, run_id: int) -> PredictionSet:
        with self.engine.connect() as connection:
            return prediction_sets.get(connection, runs.get(connection, run_id).prediction_set_id)

    def someone_waits(self) -> bool:
        """A session of this database waits for a lock."""
        with self.runtime.engine.connect() as connection:
            waiting = connection.exec_driver_sql(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            return bool(waiting.scalar_one())

    def new_version(self, version: int, signature: dict[str, Any] | None = None) -> None:
        """Another version of the model, of the same file or with this `signature`; not published."""
        artifact, home = self.trained.artifact, Path(self.settings.artifacts) / MODEL
        copytree(artifact.folder, home / str(version))
        signature_json = signature or artifact.signature.to_json()
        with self.engine.begin() as connection:
            model_versions.add(connection, NewVersion(MODEL, version, "skops", artifact.digest, signature_json), "test")

    def check_exact(self, query: str, table: str, keys: str) -> int:
        """Each row of the query has the prediction of a plain loop, once; returns how many rows."""
        names = keys.split(", ")
        width, order = len(names), ", ".join(f"q.{name}" for name in names)
        texts = ", ".join(f"q.{name}::text" for name in names)
        rows = self.sql(f"SELECT {texts}, a, b FROM ({query}) AS q ORDER BY {order}")
        kept = self.sql(f"SELECT {texts}, {', '.join(OUTPUTS)} FROM {table} AS q ORDER BY {order}")
        assert [row[:width] for row in kept] == [row[:width] for row in rows]
        wanted = self.trained.of([row[width:] for row in rows])
        np.testing.assert_allclose([row[width:] for row in kept], wanted, rtol=1e-9)
        return len(rows)


@pytest.fixture
def ledger(producer: Producer, settings: Settings, trained: Trained) -> Iterator[Ledger]:
    """A migrated database with an empty table `items (id, a, b)` and the published model."""
    made = Ledger(producer, trained, settings)
    made.new_version(1)
    made.sql(ITEMS)
    yield made
    made.runtime.close()


@pytest.fixture(scope="module")
def shared_engine(stack: StackUrls, template: str) -> Iterator[Engine]:
    """A migrated database that the tests of one module share; each rolls back what it did."""
    made = fixtures._database(stack, f"TEMPLATE {template}")
    engine = make_engine(next(made), "test")
    yield engine
    engine.dispose()
    next(made, None)


@pytest.fixture
def connection(shared_engine: Engine) -> Iterator[Connection]:
    """One transaction, rolled back at the end."""
    with shared_engine.connect() as opened:
        yield opened


def migrated(url: str) -> Engine:
    """The engine of a database that is migrated here and now."""
    engine = make_engine(url, "test")
    with engine.begin() as connection:
        migrate.migrate(connection)
    return engine
