"""What the servers spend: CPU time, log, statements and connections of PostgreSQL, commands and memory of Redis."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis
from sqlalchemy import Engine, text

from scorebeat.producer.context import Producer

PRELOAD = {"shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.max": "5000"}
"""Settings of the server; all others are the embedded server's own."""
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Reading:
    """Counters at one time; all only grow."""

    at: float
    """By `time.monotonic`."""
    cpu: float
    """Seconds of all processes of PostgreSQL."""
    wal: int
    """Bytes."""
    pages: int
    """Whole pages in the log: each page that is changed for the first time after a checkpoint."""
    batches_bytes: int
    """Of the table `batches` with its indexes."""
    broker_cpu: float


@dataclass(frozen=True)
class Spent:
    """Between two readings, in which so many batches were committed."""

    seconds: float
    batches: int
    cpu: float
    wal: int
    pages: int
    grown: int
    broker_cpu: float

    @property
    def a_batch(self) -> dict[str, float]:
        count = max(self.batches, 1)
        return {
            "batches/s": self.batches / self.seconds,
            "PostgreSQL, cores used": self.cpu / self.seconds,
            "PostgreSQL, ms of CPU a batch": 1000 * self.cpu / count,
            "log, kB a batch": self.wal / count / 1000,
            "log, whole pages a batch": self.pages / count,
            "table batches grew by, kB a batch": self.grown / count / 1000,
            "broker, ms of CPU a batch": 1000 * self.broker_cpu / count,
        }


@dataclass(frozen=True)
class Statement:
    """What PostgreSQL recorded of all executions of a statement."""

    query: str
    """Its beginning."""
    calls: int
    total: float
    """Milliseconds."""
    largest: float
    pages: float
    """Pages that an execution looked at, in memory or not."""

    def by_batch(self, batches: int) -> dict[str, Any]:
        return {
            "statement": self.query,
            "ms a batch": self.total / max(batches, 1),
            "calls a batch": self.calls / max(batches, 1),
            "mean ms": self.total / self.calls,
            "largest ms": self.largest,
            "pages a call": self.pages,
        }


class Meter:
    """Reads the servers of a data folder."""

    def __init__(self, p: Producer, data: Path) -> None:
        self._engine: Engine = p.engine
        self.broker = redis.Redis(unix_socket_path=urlsplit(p.settings.broker()).path)
        self._postmaster = int((data / "postgres" / "postmaster.pid").read_text().split()[0])
        with self._engine.begin() as connection:
            connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")

    def read(self) -> Reading:
        with self._engine.connect() as connection:
            wal, pages, size = connection.exec_driver_sql(
                "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint, wal_fpi,"
                " pg_total_relation_size('scorebeat.batches') FROM pg_stat_wal"
            ).one()
        used = self.broker.info("cpu")
        broker_cpu = used["used_cpu_user"] + used["used_cpu_sys"]
        return Reading(time.monotonic(), self._cpu(), wal, pages, size, broker_cpu)

    def _cpu(self) -> float:
        """Seconds of the postmaster, its living processes, and those that it has waited for."""
        found = sum(_stat(self._postmaster)[11:15])
        return (found + sum(sum(_stat(child)[11:13]) for child in self.processes())) / _TICK

    def processes(self) -> list[int]:
        """The server's processes but the postmaster."""
        children = Path(f"/proc/{self._postmaster}/task/{self._postmaster}/children").read_text()
        return [int(pid) for pid in children.split()]

    def private_megabytes(self) -> float | None:
        """Mean memory of a process of the server that it shares with no other; None if it may not be read."""
        found = []
        for pid in self.processes():
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            found.append(sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024)
        return sum(found) / len(found) if found else None

    def sessions(self) -> dict[str, int]:
        """Connections of clients to this database, by the beginning of their names."""
        with self._engine.connect() as connection:
            rows = connection.exec_driver_sql(
                "SELECT application_name, count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
                " AND datname = current_database() GROUP BY 1 ORDER BY 1"
            )
            return {str(name): int(count) for name, count in rows}

    def forget_statements(self) -> None:
        with self._engine.begin() as connection:
            connection.exec_driver_sql("SELECT pg_stat_statements_reset()")

    def statements(self, most: int = 20) -> list["Statement"]:
        """Those that took most time since they were forgotten."""
        with self._engine.connect() as connection:
            rows = connection.execute(_STATEMENTS, {"most": most})
            return [Statement(_shortened(row.query), row.calls, row.total, row.largest, row.pages) for row in rows]

    def whole_scans(self) -> dict[str, tuple[int, int]]:
        """Tables of the ledger that were read from one end to the other: how often, and their rows that were read."""
        with self._engine.connect() as connection:
            rows = connection.exec_driver_sql(
                "SELECT relname, seq_scan, seq_tup_read FROM pg_stat_user_tables WHERE schemaname = 'scorebeat'"
            )
            return {name: (scans, read) for name, scans, read in rows}

    def bytes_of_batches(self) -> dict[str, float]:
        """Bytes a row of `batches`, of the table and of each index; right after the history was made."""
        with self._engine.connect() as connection:
            rows = connection.exec_driver_sql(
                "SELECT c.relname, pg_relation_size(c.oid)::float8 / greatest(t.reltuples, 1) FROM pg_class t"
                " LEFT JOIN pg_index i ON i.indrelid = t.oid JOIN pg_class c ON c.oid IN (t.oid, i.indexrelid)"
                " WHERE t.oid = 'scorebeat.batches'::regclass GROUP BY c.relname, c.oid, t.reltuples ORDER BY 2 DESC"
            )
            return {str(name): float(size) for name, size in rows}

    def commands(self) -> dict[str, int]:
        """Calls of each command of the broker since it began."""
        found = self.broker.info("commandstats")
        return {name.removeprefix("cmdstat_"): int(values["calls"]) for name, values in found.items()}

    def broker_bytes(self) -> int:
        return int(self.broker.info("memory")["used_memory"])


def spent(before: Reading, after: Reading, batches: int) -> Spent:
    return Spent(
        after.at - before.at,
        batches,
        after.cpu - before.cpu,
        after.wal - before.wal,
        after.pages - before.pages,
        after.batches_bytes - before.batches_bytes,
        after.broker_cpu - before.broker_cpu,
    )


def _stat(pid: int) -> list[int]:
    """Numbers of /proc/PID/stat that come after its state; zeros for a process that has ended."""
    try:
        found = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1:]
    except OSError:
        return [0] * 20
    return [0, *map(int, found)]


def _shortened(query: str) -> str:
    return " ".join(query.split())[:110]


_STATEMENTS = text(
    "SELECT query, calls, total_exec_time AS total, max_exec_time AS largest,"
    " (shared_blks_hit + shared_blks_read)::float8 / calls AS pages FROM pg_stat_statements"
    " WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND calls > 0"
    " ORDER BY total_exec_time DESC LIMIT :most"
)
