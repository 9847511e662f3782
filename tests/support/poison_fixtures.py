"""A table of points, a model that misbehaves for chosen ones, and what every such test ends with."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from scorebeat.core import errors
from scorebeat.core.jobs.job import Job
from scorebeat.core.settings import Settings
from scorebeat.core.states import RunState
from scorebeat.db.ledger import runs
from scorebeat.models.formats import registry
from scorebeat.producer.context import Producer
from scorebeat.producer.control.plan import plan
from scorebeat.producer.control.upkeep import settle
from scorebeat.producer.requests.apply import apply
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.producer.versions import publish
from scorebeat.worker.scoring.runtime import Runtime
from scorebeat.worker.scoring.score import score_batch
from tests.support import poison

MODEL = "poison"
QUERY = "SELECT id, x FROM points"
ROUNDS = 200
"""More attempts than any of these tests needs: what would loop for ever fails."""


@dataclass
class Points:
    """A table `points (id, x)` with x = id + 0.5; whatever a test names by id, the model sees as x."""

    producer: Producer
    settings: Settings
    folder: Path
    runtime: Runtime = field(init=False)
    errors: list[str] = field(default_factory=list)
    """The types of the errors that attempts raised, in order."""

    def __post_init__(self) -> None:
        registry.register(poison.SUFFIX, poison.__name__)
        self.runtime = Runtime(self.settings, name="w1")

    @property
    def engine(self) -> Engine:
        return self.producer.engine

    @property
    def acting(self) -> Producer:
        """The producer that enqueues, plans and settles."""
        return self.producer

    def sql(self, statement: str, **values: Any) -> list[Any]:
        """Run one statement and commit; single columns come as values, others as tuples."""
        with self.engine.begin() as connection:
            result = connection.execute(text(statement), values)
            rows = [tuple(row) for row in result] if result.returns_rows else []
        return [row[0] if len(row) == 1 else row for row in rows]

    def fill(self, count: int) -> None:
        self.sql("CREATE TABLE points (id bigint PRIMARY KEY, x float8)")
        self.sql("INSERT INTO points SELECT i, i + 0.5 FROM generate_series(1, :count) i", count=count)
        self.sql("ANALYZE points")

    def model(self, kinds: Mapping[str, Iterable[int]], **options: Any) -> str:
        """Add a version that does each kind of harm for these ids, and publish it if it is the first."""
        path = self.folder / f"model{poison.SUFFIX}"
        path.write_text(json.dumps({kind: [i + 0.5 for i in ids] for kind, ids in kinds.items()} | options))
        return str(publish.add(self.producer, path, MODEL, "test").version)

    def mend(self) -> dict[str, Any]:
        """Repair the model's surroundings, here; it is the same version. Returns the harm."""
        harm = self._harm()
        was = dict(harm)
        harm.clear()
        return was

    def harm(self, harm: dict[str, Any]) -> None:
        """It goes wrong again."""
        self._harm().update(harm)

    def _harm(self) -> dict[str, Any]:
        (loaded,) = self.runtime._models.values()
        assert isinstance(loaded.model, poison.Poison)
        return loaded.model._poison

    def job(self, **options: Any) -> Job:
        """A job over the points in one batch, applied."""
        usual = {"name": "points_job", "query": QUERY, "key": ("id",), "model": MODEL, "batch_rows": 50_000}
        job = Job.model_validate({**usual, **options})
        apply(self.producer, [job], "test")
        return job

    def planned(self, job: Job) -> int:
        run_id = enqueue(self.acting, Request(job.name, "test")).run_id
        plan(self.acting, run_id)
        return run_id

    def scored(self, job: Job) -> int:
        """A new run of the job, planned and worked on to its end."""
        run_id = self.planned(job)
        self.work(run_id)
        return run_id

    def work(self, run_id: int) -> RunState:
        """Score the run's batches here until it is closed; pauses are skipped, errors kept."""
        for _ in range(ROUNDS):
            for batch_id in self.pending(run_id):
                self.sql("UPDATE scorebeat.batches SET next_attempt_at = NULL WHERE id = :id", id=batch_id)
                self.attempt(batch_id)
            settle.settle(self.acting, run_id)
            if self.run(run_id).state not in (RunState.PLANNING, RunState.RUNNING):
                return self.run(run_id).state
        pytest.fail(f"run {run_id} goes on for ever: {self.errors[-3:]}")

    def attempt(self, batch_id: int) -> None:
        try:
            score_batch(batch_id, self.runtime)
        except Exception as error:  # noqa: BLE001 -- the ledger has it; the test looks there
            self.errors.append(f"{errors.kind(error)}: {errors.text(error)}")

    def pending(self, run_id: int) -> list[int]:
        return self.sql(
            "SELECT id FROM scorebeat.batches WHERE run_id = :run AND state = 'pending' ORDER BY number", run=run_id
        )

    def run(self, run_id: int) -> runs.Run:
        with self.engine.connect() as connection:
            return runs.get(connection, run_id)

    def batches(self, run_id: int, what: str = "state, attempt") -> list[Any]:
        return self.sql(f"SELECT {what} FROM scorebeat.batches WHERE run_id = :run ORDER BY number", run=run_id)

    def quarantined(self, job: Job, what: str = "key->>0") -> list[Any]:
        """The job's quarantined rows, in the order in which they came."""
        return self.sql(
            f"SELECT {what} FROM scorebeat.quarantine z JOIN scorebeat.prediction_sets s ON s.id = z.prediction_set_id"
            " WHERE s.job = :job ORDER BY z.id",
            job=job.name,
        )

    def view(self, job: Job) -> dict[Any, Any]:
        return dict(self.sql(f"SELECT {job.key[0]}, value FROM predictions.{job.name}"))


def assert_accounted(engine: Engine, job: Job, quarantined: Mapping[Any, str], rows: str = "points") -> None:
    """Each row has exactly one prediction, 2 x, or is in quarantine by an error of this type."""
    key = job.key[0]
    with engine.connect() as connection:

        def query(statement: str) -> list[Any]:
            return [tuple(row) for row in connection.execute(text(statement), {"job": job.name})]

        (table,) = (r[0] for r in query("SELECT table_name FROM scorebeat.prediction_sets WHERE job = :job"))
        source = dict(query(f"SELECT {key}::text, x FROM {rows}"))
        found = query(f"SELECT {key}::text, value FROM predictions.{table}")
        in_quarantine = query(
            "SELECT z.key->>0, z.error_type, z.error FROM scorebeat.quarantine z"
            " JOIN scorebeat.prediction_sets s ON s.id = z.prediction_set_id WHERE s.job = :job"
        )
    wanted = {str(one): kind for one, kind in quarantined.items()}
    assert {one: kind for one, kind, _ in in_quarantine} == wanted
    assert len(in_quarantine) == len(wanted)
    assert all(error for *_, error in in_quarantine)
    assert len(found) == len(source) - len(wanted)
    assert dict(found) == {one: 2 * x for one, x in source.items() if one not in wanted}


@pytest.fixture
def points(producer: Producer, settings: Settings, tmp_path: Path) -> Iterator[Points]:
    """A migrated database; everything of it runs in the test's own process."""
    made = Points(producer, settings, tmp_path)
    yield made
    made.runtime.close()
