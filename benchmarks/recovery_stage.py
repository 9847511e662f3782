"""The system for the recovery times: everything at default settings, and one clock, the database's."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from subprocess import Popen
from typing import Any

import redis
from sqlalchemy import text

from scorebeat.core.jobs.job import Job
from scorebeat.core.settings import Settings
from scorebeat.core.states import FINAL_RUN
from scorebeat.db.schema import migrate
from scorebeat.ops.local.servers.embedded import embedded
from scorebeat.producer.context import Producer
from scorebeat.producer.requests.apply import apply
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.producer.requests.requeue import cancel
from scorebeat.producer.versions import publish
from tests.support import poison
from tests.support.fixtures import Programs, kill_group

ROWS = 20_000
PATIENCE_SECONDS = 700


@dataclass
class Stage:
    """A running system: beat and control; workers and planners come and go with each fault."""

    p: Producer
    programs: Programs
    folder: Path
    jobs: list[Job] = field(default_factory=list)

    def job(self, name: str, model: str, where: str = "true", **options: Any) -> Job:
        """Apply a job over `items (id, x)`, beside the existing ones."""
        job = Job(name=name, query=f"SELECT id, x FROM items WHERE {where}", key=("id",), model=model, **options)
        self.jobs.append(job)
        apply(self.p, self.jobs, "benchmark")
        return job

    def model(self, name: str, harm: str) -> str:
        """Add a model that fails as the JSON describes."""
        file = self.folder / f"{name}{poison.SUFFIX}"
        file.write_text(harm)
        publish.add(self.p, file, name, "benchmark")
        return name

    @contextmanager
    def workers(self, count: int, queue: str = "cpu") -> Iterator[None]:
        """`count` workers of one process each; the block begins when all serve the queue."""
        started = [self._worker(queue) for _ in range(count)]
        serving = "SELECT 1 FROM scorebeat.workers WHERE name LIKE ANY (:ends) HAVING count(*) = :count"
        ends = [f"%/{process.pid}" for process in started]
        self.wait_for(lambda: self.query(serving, ends=ends, count=count))
        try:
            yield
        finally:
            for process in started:
                kill_group(process)

    def _worker(self, queue: str) -> "Popen[bytes]":
        name = f"{queue}{len(self.programs.started)}@%h"
        options = ("-Q", queue, "-n", name, "-c", "1", "-I", poison.__name__)
        return self.programs.start("celery", "-A", "scorebeat.worker", "worker", *options)

    def process(self, name: str) -> "Popen[bytes]":
        """The worker process of this name."""
        pid = int(name.rpartition("/")[2])
        return next(process for process, _ in self.programs.started if process.pid == pid)

    @contextmanager
    def run(self, job: Job) -> Iterator[int]:
        """An open run of the job; it is cancelled at the end of the block."""
        run_id = enqueue(self.p, Request(job.name, "benchmark")).run_id
        try:
            yield run_id
        finally:
            cancel(self.p, run_id, "benchmark")

    def until_final(self, run_id: int) -> datetime:
        """When the run was closed."""
        finals = [state.value for state in FINAL_RUN]
        query = "SELECT finished_at FROM scorebeat.runs WHERE id = :id AND state = ANY (:finals)"
        return self.wait_for_time(query, id=run_id, finals=finals)

    def wait_for_time(self, query: str, **values: Any) -> datetime:
        """The timestamp that the query returns, as soon as it returns one."""
        found: datetime = self.wait_for(lambda: self.query(query, **values))[0][0]
        return found

    def now(self) -> datetime:
        return self.wait_for_time("SELECT clock_timestamp()")

    def flush_broker(self) -> None:
        path = self.p.settings.broker().partition("://")[2].partition("?")[0]
        with redis.Redis(unix_socket_path=path) as client:
            client.flushall()

    def query(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        with self.p.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query), values)]

    def wait_for(self, look: Callable[[], list[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
        """The first result that is not empty."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := look()):
            assert time.monotonic() < deadline, f"nothing came within {PATIENCE_SECONDS} s"
            time.sleep(0.02)
        return found


@contextmanager
def stage() -> Iterator[Stage]:
    """Servers with `items (id, x)`, x = id from 1 to 20,000; default settings in all programs."""
    with tempfile.TemporaryDirectory(prefix="scorebeat-recovery-") as name:
        folder = Path(name)
        with embedded(folder / "data") as urls:
            settings = Settings(
                _env_file=None,
                database_url=urls.database_url,
                broker_url=urls.broker_url,
                artifacts=folder / "artifacts",
                jobs=folder / "jobs.toml",
            )
            made = Stage(Producer(settings, "benchmark"), Programs(settings, folder), folder)
            try:
                _prepare(made)
                yield made
            finally:
                for process, _ in made.programs.started:
                    kill_group(process)
                made.p.close()


def _prepare(s: Stage) -> None:
    with s.p.engine.begin() as connection:
        migrate.migrate(connection)
        connection.exec_driver_sql("CREATE TABLE items (id bigint PRIMARY KEY, x float8 NOT NULL)")
        connection.exec_driver_sql(f"INSERT INTO items SELECT i, i FROM generate_series(1, {ROWS}) i")
        connection.exec_driver_sql("ANALYZE items")
    s.programs.worker("control", name="control")
    s.programs.beat()
    s.wait_for(lambda: s.query("SELECT 1 FROM scorebeat.workers WHERE name LIKE 'control%'"))
