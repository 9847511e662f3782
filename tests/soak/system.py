"""The system under the soak: servers, beat, control and two CPU workers, under the supervisor that `up` uses."""

import json
import sys
from pathlib import Path

from scorebeat.core.jobs.job import Job
from scorebeat.core.settings import Settings, load_settings
from scorebeat.db.schema import migrate
from scorebeat.ops.local.processes import Process
from scorebeat.ops.local.up import child_environment, up
from scorebeat.producer.context import Producer
from scorebeat.producer.requests.apply import apply
from scorebeat.producer.versions import publish
from tests.soak.others import JOBS, MODEL, TABLES
from tests.support import poison

JOB = Job(
    name="soak", query="SELECT id, x FROM items", key=("id",), model="poison", batch_rows=2_000, error_threshold=-1
)


def serve(rows: int, poisoned: dict[str, object]) -> int:
    """Run everything in this terminal until SIGTERM; the table has ids 1 to `rows`, and x = id."""
    settings = load_settings()
    return up(settings, lambda reachable: _prepare(reachable, rows, poisoned), _processes)


def _processes(settings: Settings) -> list[Process]:
    environment = child_environment(settings)
    celery = (sys.executable, "-m", "celery", "-A", "scorebeat.worker")

    def worker(name: str, queue: str, processes: int) -> Process:
        options = ("-Q", queue, "-n", f"{name}@%h", "-c", str(processes), "-I", poison.__name__, "-l", "WARNING")
        return Process(name, (*celery, "worker", *options), environment)

    return [
        worker("control", "control", 1),
        worker("plan", "plan", 1),
        worker("cpu-a", "cpu", 2),
        worker("cpu-b", "cpu", 2),
        Process("beat", (*celery, "beat", "-l", "WARNING"), environment),
    ]


def _prepare(settings: Settings, rows: int, poisoned: dict[str, object]) -> None:
    p = Producer(settings, "soak")
    with p.engine.begin() as connection:
        migrate.migrate(connection)
        connection.exec_driver_sql("CREATE TABLE items (id bigint PRIMARY KEY, x float8 NOT NULL)")
        connection.exec_driver_sql(f"INSERT INTO items SELECT i, i FROM generate_series(1, {rows:d}) i")
        for statement in (*TABLES, "ANALYZE items"):
            connection.exec_driver_sql(statement)
    for name, harm in ((JOB.model_name, poisoned), (MODEL, {})):
        file = Path(settings.data).parent / f"{name}{poison.SUFFIX}"
        file.write_text(json.dumps(harm))
        publish.add(p, file, name, "soak")
    apply(p, [JOB, *JOBS], "soak")
    p.close()


if __name__ == "__main__":
    sys.exit(serve(int(sys.argv[1]), json.loads(sys.argv[2])))
