"""Alternating rounds of one workload: Scorebeat, then each peer, on one server; every prediction is checked."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
from sqlalchemy import Connection, make_url

from benchmarks.bench_stack import Bench, system
from benchmarks.measure import checkpoint, empty_set, spread, timed_run
from benchmarks.peers.catalogue import Peer
from benchmarks.peers.expected import Expected, expected
from benchmarks.peers.programs.task import Task
from benchmarks.peers.running import program
from benchmarks.peers.workloads import MODEL, Workload
from benchmarks.spine import wait_for_workers
from scorebeat.models.artifact import Artifact
from scorebeat.producer.context import Producer

TARGET = "peer_predictions"
TRIAL_ROWS = 200
PROCESSES = 2
JDBC_JAR = "jdbc/usr/share/java/postgresql.jar"
"""In the peers' environment."""


@dataclass(frozen=True)
class Size:
    """Rows of a workload."""

    whole: int
    """Of the table; Scorebeat scores all of them."""
    most: int
    """That any peer scores."""

    def of(self, peer: Peer, workload: Workload) -> int:
        return min(self.whole, self.most, peer.most.get(workload.name, self.whole))


def measure(workload: Workload, size: Size, peers: Sequence[Peer], rounds: int, environment: Path) -> dict[str, Any]:
    """Rows a second of all, by round. Raises AssertionError if a prediction is missing or wrong."""
    address = f"127.77.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
    with tempfile.TemporaryDirectory(prefix="scorebeat-peers-") as name:
        folder = Path(name)

        def prepare(p: Producer, stack: Path) -> Artifact:
            artifact = workload.prepare(p, folder, size.whole)
            with p.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                _allow_tcp(connection, stack)
                for rows in {TRIAL_ROWS, *(size.of(peer, workload) for peer in peers)} - {size.whole}:
                    _copy(connection, workload.table, rows)
            return artifact

        with system(prepare, PROCESSES, {"listen_addresses": address}) as b:
            wait_for_workers(b)
            right = expected(b.p.url, workload, joblib.load(folder / MODEL))
            race = _Race(b, workload, size, right, _task(b, workload, right, folder, address, environment), environment)
            for _ in range(2):  # every process loads the model and opens its connections; this is not measured
                race.scorebeat()
            return _result(race, peers, rounds)


def _result(race: "_Race", peers: Sequence[Peer], rounds: int) -> dict[str, Any]:
    scorebeat: list[float] = []
    laps: dict[str, list[_Lap]] = {peer.name: [] for peer in peers}
    for number in range(1, rounds + 1):
        scorebeat.append(race.scorebeat())
        print(f"{race.workload.name}, round {number}: scorebeat {scorebeat[-1]:,.0f} rows/s", flush=True)
        for peer in peers if number % 2 else peers[::-1]:
            laps[peer.name].append(lap := race.peer(peer))
            print(f"  {peer.name} {lap.rows_per_second:,.0f} rows/s over {lap.rows:,}, "
                  f"{scorebeat[-1] / lap.rows_per_second:,.1f} x", flush=True)  # fmt: skip
    return {
        "rows": race.size.whole,
        "engine": race.b.artifact.engine.engine,
        "scorebeat, rows/s": spread(scorebeat),
        "peers": {
            name: {
                "rows": found[0].rows,
                "rows/s": spread([lap.rows_per_second for lap in found]),
                "scorebeat is faster by": spread(
                    [ours / lap.rows_per_second for ours, lap in zip(scorebeat, found, strict=True)]
                ),
                "versions": found[0].versions,
            }
            for name, found in laps.items()
        },
    }


@dataclass(frozen=True)
class _Lap:
    rows: int
    rows_per_second: float
    versions: dict[str, str]


@dataclass(frozen=True)
class _Race:
    """A running system, and what its peers are to score."""

    b: Bench
    workload: Workload
    size: Size
    right: Expected
    task: Task
    environment: Path

    def scorebeat(self) -> float:
        """Rows a second from `enqueue` to the last commit, by two processes over an empty set."""
        table = self.workload.set_table
        empty_set(self.b, table)
        timed = timed_run(self.b, PROCESSES, self.workload.job.name)
        self.right.check(self.b.p.url, f"predictions.{table}", self.size.whole, "scorebeat")
        checkpoint(self.b, table)
        return timed.rows_per_second

    def peer(self, peer: Peer) -> _Lap:
        """From its start signal to its last commit, over an empty table with the same key."""
        rows = self.size.of(peer, self.workload)
        source = self.workload.table if rows == self.size.whole else _copy_name(self.workload.table, rows)
        with self._autocommit() as connection:
            make_target(connection, self.right.outputs)
        log = Path(self.task.model).with_name(f"{peer.name}.log")
        with program(self.environment / "bin" / "python", peer.module, replace(self.task, source=source), log) as one:
            with self._autocommit() as connection:
                connection.exec_driver_sql(f"TRUNCATE {TARGET}")
                connection.exec_driver_sql("CHECKPOINT")
            seconds = one.seconds(source)
        self.right.check(self.b.p.url, TARGET, rows, peer.name)
        return _Lap(rows, rows / seconds, one.versions)

    def _autocommit(self) -> Connection:
        return self.b.engine.connect().execution_options(isolation_level="AUTOCOMMIT")


def _task(b: Bench, workload: Workload, right: Expected, folder: Path, address: str, environment: Path) -> Task:
    url = make_url(b.p.url)
    return Task(
        url=b.p.url,
        jdbc_url=f"jdbc:postgresql://{address}:5432/{url.database}",
        user=str(url.username),
        password=str(url.password),
        jdbc_jar=str(environment / JDBC_JAR),
        broker_url=b.p.settings.broker().replace("virtual_host=0", "virtual_host=1"),
        source=workload.table,
        trial=_copy_name(workload.table, TRIAL_ROWS),
        target=TARGET,
        inputs=workload.columns,
        outputs=right.outputs,
        model=str(folder / MODEL),
        is_text=workload.is_text,
        cores=PROCESSES,
        batch_rows=workload.peers_batch_rows,
    )


def _allow_tcp(connection: Connection, stack: Path) -> None:
    """For Java, which cannot connect to a socket in a folder. Its end of the connection has the usual address."""
    with (stack / "data" / "postgres" / "pg_hba.conf").open("a") as file:
        file.write("host all all 127.0.0.1/32 password\n")
    connection.exec_driver_sql("SELECT pg_reload_conf()")


def _copy(connection: Connection, table: str, rows: int) -> None:
    """The first rows as a table of their own: some peers read whole tables only."""
    name = _copy_name(table, rows)
    connection.exec_driver_sql(f"CREATE TABLE {name} AS SELECT * FROM {table} WHERE id <= {rows} ORDER BY id")
    connection.exec_driver_sql(f"ALTER TABLE {name} ADD PRIMARY KEY (id)")
    connection.exec_driver_sql(f"VACUUM ANALYZE {name}")


def _copy_name(table: str, rows: int) -> str:
    return f"{table}_{rows}"


def make_target(connection: Connection, outputs: Sequence[str]) -> None:
    """The empty table that a peer writes: `id`, the label, a probability for each class."""
    label, *probabilities = outputs
    columns = ", ".join(f'"{name}" float8' for name in probabilities)
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {TARGET}")
    connection.exec_driver_sql(f'CREATE TABLE {TARGET} (id bigint PRIMARY KEY, "{label}" text, {columns})')
