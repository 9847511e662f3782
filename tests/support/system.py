"""A whole system for a test: servers of its own, a source table, a small model, and what every such test ends with."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import redis
import skops.io
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sqlalchemy import Engine, text

from scorebeat.core.jobs.job import Job
from scorebeat.core.settings import Settings
from scorebeat.core.states import FINAL_RUN, RunState
from scorebeat.db.ledger import jobs
from scorebeat.db.processes import workers
from scorebeat.db.schema import migrate
from scorebeat.models.contract import AddOptions
from scorebeat.producer.context import Producer
from scorebeat.producer.requests.apply import apply
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.producer.versions import publish
from tests.support.fixtures import Programs, kill_group, wait_for
from tests.support.machine_code import shared_machine_code
from tests.support.own_servers import OwnServers, own_servers
from tests.support.source_tables import BIGINT, INPUTS, KeyCase, fill

MODEL = "flowers"
GATE = 42
"""An advisory lock: while a test holds it, fetches of gated jobs wait, in the database and nowhere else."""

SHORT_WAITS: dict[str, Any] = {
    "claim_ttl": timedelta(seconds=3),
    "heartbeat": timedelta(milliseconds=500),
    "resend_after": timedelta(seconds=1),
    "backoff": timedelta(milliseconds=100),
    "backoff_cap": timedelta(seconds=1),
}
IN_A_FETCH = "current_setting('application_name') LIKE '% data'"
AT_THE_GATE = (
    f"CASE WHEN set_config('lock_timeout', '0', true) = '0' THEN pg_advisory_xact_lock_shared({GATE}) IS NOT NULL END"
)
"""True, when the gate is open: a fetch would not wait long by itself."""
GATED = f"CASE WHEN {IN_A_FETCH} THEN {AT_THE_GATE} ELSE true END"
"""True of every row; a worker's fetch first takes the gate's lock."""
SLOW = f"CASE WHEN {IN_A_FETCH} THEN pg_sleep(0.002) IS NOT NULL ELSE true END"
"""True of every row; a worker's fetch takes 2 ms a row."""


@dataclass(frozen=True)
class System:
    """Servers, a producer and programs of one test or test module, with one model that is published."""

    p: Producer
    programs: Programs
    servers: OwnServers
    model: Any
    """scikit-learn's own, as it was fitted: the plain loop calls it."""

    @property
    def engine(self) -> Engine:
        return self.p.engine

    @property
    def settings(self) -> Settings:
        return self.p.settings

    def job(
        self,
        name: str,
        keys: KeyCase = BIGINT,
        rows: int = 200,
        *,
        where: str = "true",
        model: str = MODEL,
        **options: Any,
    ) -> Job:
        """A source table `name` of real measurements, and a job over it, applied beside those there are."""
        fill(self.engine, name, keys, 0, rows)
        columns = ", ".join([*keys.names, *INPUTS])
        query = f"SELECT {columns} FROM {name} WHERE {where}"
        options = {"batch_rows": max(1, rows // 4), **options}
        job = Job(name=name, query=query, key=keys.names, model=model, **options)
        self.apply(job)
        return job

    def apply(self, job: Job) -> None:
        """Apply it beside the jobs that there are, or instead of the one of its name."""
        with self.engine.connect() as connection:
            others = [row.job for row in jobs.listing(connection) if row.job.name != job.name]
        apply(self.p, [*others, job], "test")

    def enqueue(self, job: Job) -> int:
        return enqueue(self.p, Request(job.name, "test")).run_id

    def query(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Rows that the ledger returns now."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement), values)]

    def execute(self, statement: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(statement), values)

    def until_served(self, *queues: str) -> None:
        wait_for(lambda: self._served() >= set(queues))

    def until_planned(self, run_id: int) -> None:
        """Wait until the plan is closed and all its messages are out: if nobody scores the run, it changes no more."""
        statement = (
            "SELECT 1 FROM scorebeat.runs r WHERE id = :id AND plan_is_whole AND NOT EXISTS"
            " (SELECT FROM scorebeat.batches WHERE run_id = r.id AND state = 'pending' AND sent_at IS NULL)"
        )
        wait_for(lambda: self.query(statement, id=run_id))

    def until_finished(self, run_id: int, within: float = 120.0) -> RunState:
        """Wait for the end of the run; returns its state."""
        finals = [state.value for state in FINAL_RUN]
        statement = "SELECT state FROM scorebeat.runs WHERE id = :id AND state = ANY (:finals)"
        return RunState(wait_for(lambda: self.query(statement, id=run_id, finals=finals), within)[0][0])

    def batches(self, run_id: int) -> list[tuple[str, int, str | None]]:
        """State, attempts and last worker of each batch of the run."""
        return [
            (state, attempt, by)
            for state, attempt, by in self.query(
                "SELECT state, attempt, claimed_by FROM scorebeat.batches WHERE run_id = :id ORDER BY number", id=run_id
            )
        ]

    def first_batch(self, run_id: int) -> int:
        return int(self.query("SELECT min(id) FROM scorebeat.batches WHERE run_id = :id", id=run_id)[0][0])

    def worker_of(self, run_id: int) -> int:
        """Process id of the worker that has, or last had, the run's first batch."""
        return int(str(self.batches(run_id)[0][2]).rpartition("/")[2])

    def until_older_than_a_claim(self, run_id: int) -> None:
        """Wait until the run's first batch has been in progress for longer than a claim lasts unless renewed."""
        statement = (
            "SELECT 1 FROM scorebeat.batches WHERE run_id = :id AND number = 1"
            " AND claimed_at + CAST(:ttl AS interval) * 1.5 < clock_timestamp()"
        )
        wait_for(lambda: self.query(statement, id=run_id, ttl=self.settings.claim_ttl))

    def until_renewed(self, run_id: int) -> None:
        """Wait for a renewal of the claim of the run's first batch, a second from now or later."""
        ((start,),) = self.query("SELECT now() + interval '1 second'")
        statement = (
            "SELECT 1 FROM scorebeat.batches WHERE run_id = :id AND number = 1"
            " AND claim_expires_at - CAST(:ttl AS interval) > :start"
        )
        wait_for(lambda: self.query(statement, id=run_id, ttl=self.settings.claim_ttl, start=start))

    def at_the_gate(self, count: int = 1) -> list[str]:
        """Waits until `count` fetches wait at the closed gate; returns their connections' names."""
        waiting = (
            "SELECT application_name FROM pg_stat_activity"
            " WHERE wait_event = 'advisory' AND application_name LIKE '% data'"
        )
        wait_for(lambda: len(self.query(waiting)) >= count)
        return [row[0] for row in self.query(waiting)]

    def key(self, name: str) -> str:
        """The broker's key, or channel, of that name."""
        return self.p.app.prefix() + name

    def flush_broker(self) -> None:
        with redis.Redis(unix_socket_path=self.servers.broker_socket) as client:
            client.flushall()

    def push(self, queue: str, message: str) -> None:
        """Put a raw message into a queue."""
        with redis.Redis(unix_socket_path=self.servers.broker_socket) as client:
            client.lpush(queue, message)

    def _served(self) -> set[str]:
        with self.engine.connect() as connection:
            return workers.served(connection)

    @contextmanager
    def closed_gate(self) -> Iterator[None]:
        """Fetches of gated jobs wait until the block is left."""
        with self.engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:gate)"), {"gate": GATE})
            connection.commit()
            try:
                yield
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:gate)"), {"gate": GATE})
                connection.commit()


def assert_scored_once(s: System, job: Job, version: int = 1) -> None:
    """Each source row has exactly one prediction, equal to that of a plain loop over the model.

    Of a job that scores every row in every run, in the newest generation.
    """
    keys = ", ".join(job.key)
    table = s.query(
        "SELECT table_name FROM scorebeat.prediction_sets WHERE job = :job AND model_version = :version"
        " ORDER BY generation DESC",
        job=job.name,
        version=version,
    )[0][0]
    rows = s.query(f"SELECT {keys}, {', '.join(INPUTS)} FROM {job.name} ORDER BY {keys}")
    found = s.query(f"SELECT {keys}, label, setosa, versicolor, virginica FROM predictions.{table} ORDER BY {keys}")
    wide = len(job.key)
    assert [row[:wide] for row in found] == [row[:wide] for row in rows]
    expected = [s.model.predict_proba(np.array([row[wide:]]))[0] for row in rows]
    assert np.allclose([row[wide + 1 :] for row in found], expected, rtol=0, atol=1e-9)
    assert [row[wide] for row in found] == [s.model.classes_[np.argmax(chances)] for chances in expected]


@contextmanager
def own_system(folder: Path, **options: Any) -> Iterator[System]:
    """Servers of its own, a migrated ledger and a published model; what was started in it is killed.

    `options` are settings that replace these and `SHORT_WAITS`.
    """
    with own_servers(folder / "data") as servers:
        settings: dict[str, Any] = {
            "database_url": servers.urls.database_url,
            "broker_url": servers.urls.broker_url,
            "artifacts": folder / "artifacts",
            "cache": shared_machine_code(folder / "cache"),
            "jobs": folder / "jobs.toml",
            "data": folder / "data",
        }
        p = Producer(Settings(_env_file=None, **(settings | SHORT_WAITS | options)), "test")
        programs = Programs(p.settings, folder)
        try:
            with p.engine.begin() as connection:
                migrate.migrate(connection)
            yield System(p, programs, servers, publish_model(p, folder))
        finally:
            for process, _ in programs.started:
                kill_group(process)
            print(programs.logs())  # noqa: T201 -- pytest shows it where a test failed
            p.close()


@contextmanager
def reached(s: System, **settings: Any) -> Iterator[System]:
    """The same system by other ways: settings such as URLs instead of its own, for its producer and its programs."""
    p = Producer(s.settings.model_copy(update=settings), "test")
    before = len(s.programs.started)
    programs = Programs(p.settings, s.programs.folder, s.programs.started)
    try:
        yield System(p, programs, s.servers, s.model)
    finally:
        for process, _ in programs.started[before:]:
            kill_group(process)
        p.close()


def publish_model(p: Producer, folder: Path) -> Any:
    """Fit a small classifier of flowers, add it to the store and record it; returns it as it was fitted."""
    iris = load_iris()
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(iris.data, iris.target_names[iris.target])
    skops.io.dump(model, folder / "flowers.skops")
    publish.add(p, folder / "flowers.skops", MODEL, "test", AddOptions(INPUTS))
    return model


def children(pid: int) -> list[int]:
    """Process ids of the children."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
