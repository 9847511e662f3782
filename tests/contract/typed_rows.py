"""A database where columns of all types are scored by models that return their inputs."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from sqlalchemy import text

from scorebeat.core.data_folder import StackUrls
from scorebeat.core.jobs.job import Job
from scorebeat.core.settings import Settings
from scorebeat.db.ledger import jobs, runs
from scorebeat.producer.context import Producer
from scorebeat.producer.control.plan import plan
from scorebeat.producer.control.upkeep import settle
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.producer.versions import publish
from scorebeat.worker.scoring.runtime import Runtime
from scorebeat.worker.scoring.score import score_batch
from tests.support import fixtures

ECHO = """
    import pyarrow as pa

    def number(kind):
        return pa.int32() if pa.types.is_date(kind) else pa.int64() if pa.types.is_timestamp(kind) else None

    class Echo:
        outputs = {"seen": "string"}

        def __init__(self, files, device):
            pass

        def predict(self, rows):
            x = rows.column(0)
            plain = x.view(number(x.type)) if number(x.type) else x
            return {"seen": [repr(value) for value in plain.to_pylist()]}
"""
"""Returns its inputs: dates and timestamps as days and microseconds since 1970."""
OF_TYPE = """
    class {name}(Echo):
        inputs = {{"x": "{kind}"}}
"""


@dataclass
class TypedRows:
    """Jobs over tables of a test, each scored to its end in this process."""

    producer: Producer
    settings: Settings
    folder: Path
    runtime: Runtime = field(init=False)
    models: dict[str, str] = field(default_factory=dict)
    """Types of inputs to the names of the models that were added for them."""

    def __post_init__(self) -> None:
        self.runtime = Runtime(self.settings, name="w1")
        sys.path.insert(0, str(self.folder))

    def sql(self, statement: str, **values: Any) -> list[Any]:
        """Run one statement and commit; single columns come as values, others as tuples."""
        with self.producer.engine.begin() as connection:
            result = connection.execute(text(statement), values) if values else connection.exec_driver_sql(statement)
            rows = [tuple(row) for row in result] if result.returns_rows else []
        return [row[0] if len(row) == 1 else row for row in rows]

    def echo(self, kind: str) -> str:
        """Name of a model whose only input `x` has this type."""
        if kind not in self.models:
            name = f"echo{len(self.models)}"
            self.add(name, dedent(ECHO) + dedent(OF_TYPE.format(name="Typed", kind=kind)), "Typed")
            self.models[kind] = name
        return self.models[kind]

    def add(self, name: str, code: str, class_name: str) -> None:
        """Add a model of this code, as `scorebeat models add` does."""
        (self.folder / f"of_{name}.py").write_text(dedent(code), "utf-8")
        publish.add(self.producer, f"of_{name}:{class_name}", name, "test")

    def job(self, name: str, model: str, **options: Any) -> Job:
        """A job beside those there are."""
        usual = {"query": f"SELECT * FROM {name}", "key": "id", "error_threshold": -1}
        job = Job.model_validate({"name": name, "model": model, **usual, **options})
        with self.producer.engine.begin() as connection:
            others = [row.job for row in jobs.listing(connection) if row.job.name != name]
            jobs.apply(connection, [*others, job], "test")
        return job

    def planned(self, job: Job, **options: Any) -> int:
        run_id = enqueue(self.producer, Request(job.name, "test", **options)).run_id
        plan(self.producer, run_id)
        return run_id

    def score(self, run_id: int, batches: Sequence[int] | None = None) -> None:
        """Score the run's batches, or these of them, until none is pending."""
        for batch_id in batches if batches is not None else self.batches(run_id):
            for _ in range(6):
                self.sql("UPDATE scorebeat.batches SET next_attempt_at = NULL WHERE id = :id", id=batch_id)
                with suppress(Exception):  # the ledger has it; the test looks there
                    score_batch(batch_id, self.runtime)
        settle.settle(self.producer, run_id)

    def scored(self, job: Job, **options: Any) -> runs.Run:
        run_id = self.planned(job, **options)
        self.score(run_id)
        return self.run(run_id)

    def run(self, run_id: int) -> runs.Run:
        with self.producer.engine.connect() as connection:
            return runs.get(connection, run_id)

    def batches(self, run_id: int) -> list[int]:
        return self.sql("SELECT id FROM scorebeat.batches WHERE run_id = :id ORDER BY number", id=run_id)

    def errors(self, run_id: int) -> list[str]:
        """Of batches that are dead."""
        return self.sql(
            "SELECT error FROM scorebeat.batches WHERE run_id = :id AND state = 'dead' ORDER BY number", id=run_id
        )

    def seen(self, job: Job) -> dict[Any, str]:
        """The model's input for each key."""
        return dict(self.sql(f"SELECT {job.key[0]}, seen FROM predictions.{job.name}"))

    def quarantined(self, job: Job) -> dict[str, str]:
        """Keys in quarantine, as texts, with their errors."""
        rows = self.sql(
            "SELECT z.key, z.error FROM scorebeat.quarantine z JOIN scorebeat.prediction_sets s"
            " ON s.id = z.prediction_set_id WHERE s.job = :job",
            job=job.name,
        )
        return {key[0] if len(key) == 1 else json.dumps(key): error for key, error in rows}

    def close(self) -> None:
        self.runtime.close()
        self.producer.close()
        sys.path.remove(str(self.folder))


@pytest.fixture(scope="module")
def rows(stack: StackUrls, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TypedRows]:
    folder = tmp_path_factory.mktemp("typed")
    databases = fixtures._database(stack, f"TEMPLATE {template}")
    settings = Settings(
        _env_file=None,
        database_url=next(databases),
        broker_url=stack.broker_url,
        artifacts=folder / "artifacts",
        cache=folder / "cache",
    )
    (folder / "code").mkdir()
    made = TypedRows(Producer(settings, "test"), settings, folder / "code")
    made.sql("CREATE EXTENSION citext")
    made.sql("CREATE TYPE colour AS ENUM ('red', 'dark blue')")
    yield made
    made.close()
    next(databases, None)
