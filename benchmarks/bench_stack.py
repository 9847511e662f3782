"""What the benchmarks run on: servers of their own, the items table, a model, real workers."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skops.io
from sklearn.linear_model import LogisticRegression
from sqlalchemy import Engine

from benchmarks.programs import programs
from scorebeat.core.jobs.job import Job
from scorebeat.core.settings import Settings
from scorebeat.db.ledger import jobs, model_versions
from scorebeat.db.schema import migrate
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions
from scorebeat.models.store import store
from scorebeat.ops.local.servers.embedded import embedded
from scorebeat.producer.context import Producer
from scorebeat.producer.versions import prediction_tables

ITEMS = Job(name="items", query="SELECT id, a, b, c, d FROM items", key=("id",), model="linear", batch_rows=50_000)


@dataclass(frozen=True)
class Bench:
    """A running system with nothing to do."""

    p: Producer
    artifact: Artifact
    workers: dict[str, "subprocess.Popen[bytes]"]

    @property
    def engine(self) -> Engine:
        return self.p.engine


@contextmanager
def bench(rows: int, job: Job = ITEMS) -> Iterator[Bench]:
    """Servers, `rows` items, the job applied, and beat, control, plan and a CPU worker of two processes."""
    with system(lambda p, folder: _prepare(p, folder, job, rows)) as b:
        yield b


@contextmanager
def system(
    prepare: Callable[[Producer, Path], Artifact], processes: int = 2, postgres: Mapping[str, str] | None = None
) -> Iterator[Bench]:
    """Servers, what `prepare` makes in the migrated database, and workers; `processes` of them score."""
    with servers(postgres) as (p, folder):
        artifact = prepare(p, folder)
        with workers(p.settings, folder, processes) as started:
            yield Bench(p, artifact, started)


@contextmanager
def servers(postgres_settings: Mapping[str, str] | None = None) -> Iterator[tuple[Producer, Path]]:
    """Servers with an empty ledger, and the folder whose `data` is theirs."""
    with tempfile.TemporaryDirectory(prefix="scorebeat-bench-") as name:
        folder = Path(name)
        with embedded(folder / "data", postgres_settings=postgres_settings) as urls:
            settings = Settings(
                database_url=urls.database_url, broker_url=urls.broker_url, artifacts=folder / "artifacts"
            )
            p = Producer(settings, "benchmark")
            with p.engine.begin() as connection:
                migrate.migrate(connection)
            yield p, folder
            p.close()


def _prepare(p: Producer, folder: Path, job: Job, rows: int) -> Artifact:
    fill_items(p.engine, rows)
    return add(p, job, train(folder), AddOptions(("a", "b", "c", "d")))


def add(p: Producer, job: Job, file: Path, options: AddOptions) -> Artifact:
    """Apply the job and add its model."""
    artifact = store.add(p.settings.artifacts, file, job.model_name, options)
    with p.engine.begin() as connection:
        jobs.apply(connection, [job], "benchmark")
        new = model_versions.NewVersion(
            artifact.name, artifact.version, artifact.format, artifact.digest, artifact.signature.to_json(),
            artifact.engine.engine, artifact.engine.to_json(),
        )  # fmt: skip
        prediction_tables.ensure(
            connection, prediction_tables.fit(connection, p.url, job, model_versions.add(connection, new, "benchmark"))
        )
    return artifact


def fill_items(engine: Engine, rows: int) -> None:
    """`items(id, a, b, c, d)` with ids 1 to `rows`, analysed."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(
            "CREATE TABLE items (id bigint PRIMARY KEY, a float8 NOT NULL, b float8 NOT NULL, c float8 NOT NULL,"
            " d float8 NOT NULL)"
        )
        connection.exec_driver_sql(
            f"INSERT INTO items SELECT i, random(), random(), random(), random() FROM generate_series(1, {rows}) i"
        )
        connection.exec_driver_sql("VACUUM ANALYZE items")


def train(folder: Path) -> Path:
    """The classifier's file."""
    path = folder / "linear.skops"
    skops.io.dump(classifier(), path)
    return path


def classifier() -> LogisticRegression:
    """A logistic regression with three classes: label and three probabilities."""
    random = np.random.default_rng(7)
    features = random.random((1_000, 4))
    classes = np.array(["x", "y", "z"])[np.digitize(features.sum(axis=1), [1.8, 2.2])]
    return LogisticRegression().fit(features, classes)


def workers(
    settings: Settings, folder: Path, processes: int
) -> AbstractContextManager[dict[str, "subprocess.Popen[bytes]"]]:
    """Beat, control, plan and a worker of so many processes."""
    environment = os.environ | {
        "SCOREBEAT_DATABASE_URL": settings.database(),
        "SCOREBEAT_BROKER_URL": settings.broker(),
        "SCOREBEAT_ARTIFACTS": str(settings.artifacts),
    }
    celery = [sys.executable, "-m", "celery", "-A", "scorebeat.worker"]
    commands = {
        "beat": [*celery, "beat"],
        "control": [*celery, "worker", "-Q", "control", "-n", "control@%h", "-c", "1"],
        "plan": [*celery, "worker", "-Q", "plan", "-n", "plan@%h", "-c", "1"],
        "cpu": [*celery, "worker", "-Q", "cpu", "-n", "cpu@%h", "-c", str(processes)],
    }
    return programs(commands, environment, folder)


def peak_megabytes(parent: "subprocess.Popen[bytes]") -> list[float]:
    """Peak resident memory of each process of a worker, in MB."""
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    found = []
    for child in children:
        status = Path(f"/proc/{child}/status").read_text().splitlines()
        found += [int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM")]
    return found
