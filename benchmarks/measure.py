"""Timing runs through the ledger: one clock, the database's."""

import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text

from benchmarks.bench_stack import Bench
from scorebeat.core.states import RunState
from scorebeat.db.ledger import runs
from scorebeat.producer.requests.enqueue import Request, enqueue

PATIENCE_SECONDS = 300
ITEMS_SET = "items__linear_v1"
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Timed:
    """A run from just before `enqueue` to its last commit, in seconds."""

    seconds: float
    until_closed: float
    """To its end: a generation is shown then, after its key was built."""
    first_claim: float
    planned: float
    rows: int
    split: dict[str, float]
    """Share of the worker processes' time, by step."""

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds


def empty_set(b: Bench, table: str = ITEMS_SET) -> None:
    """Delete all predictions of the table."""
    with b.engine.begin() as connection:
        connection.exec_driver_sql(f"TRUNCATE predictions.{table}")
    checkpoint(b, table)


def checkpoint(b: Bench, table: str = ITEMS_SET) -> None:
    """Leave the server no background work, so that all rounds begin equal."""
    with b.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"VACUUM ANALYZE predictions.{table}")
        connection.exec_driver_sql("CHECKPOINT")


def timed_run(b: Bench, processes: int = 2, job: str = "items") -> Timed:
    """Enqueue the job and wait for its end. Raises AssertionError unless it succeeded."""
    with b.engine.connect() as connection:
        began = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
    run_id = enqueue(b.p, Request(job, "benchmark")).run_id
    state = wait_until_final(b, run_id)
    assert state is RunState.SUCCEEDED, f"run {run_id} is {state}"
    with b.engine.connect() as connection:
        row = connection.execute(_TIMES, {"run": run_id, "began": began}).one()
    whole = processes * row.seconds
    split = {"fetch": row.fetch / whole, "predict": row.predict / whole, "commit": row.commit / whole}
    split["everything else"] = 1 - sum(split.values())
    return Timed(row.seconds, row.until_closed, row.first_claim, row.planned, row.rows, split)


_TIMES = text(
    "SELECT extract(epoch FROM max(b.finished_at) - :began)::float8 AS seconds,"
    " extract(epoch FROM max(r.finished_at) - :began)::float8 AS until_closed,"
    " extract(epoch FROM min(b.claimed_at) - :began)::float8 AS first_claim,"
    " extract(epoch FROM max(r.planned_at) - :began)::float8 AS planned,"
    " sum(b.rows_scored)::bigint AS rows, sum(b.fetch_seconds) AS fetch, sum(b.predict_seconds) AS predict,"
    " sum(b.commit_seconds) AS commit"
    " FROM scorebeat.batches b JOIN scorebeat.runs r ON r.id = b.run_id WHERE b.run_id = :run"
)


def wait_until_final(b: Bench, run_id: int) -> RunState:
    """Wait for the end of the run. It polls rarely, so that polling costs nothing."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        with b.engine.connect() as connection:
            state = runs.get(connection, run_id).state
        if state not in (RunState.PLANNING, RunState.RUNNING):
            return state
        time.sleep(0.1)
    raise AssertionError(f"run {run_id} did not end within {PATIENCE_SECONDS} s")


def median(values: list[float]) -> float:
    return statistics.median(values)


def spread(values: list[float]) -> dict[str, Any]:
    return {"median": median(values), "least": min(values), "most": max(values), "all": values}


def keep(result: dict[str, Any], file: Path) -> None:
    """Write the results as JSON, and print where."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=2))
    print(f"written to {file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}")
