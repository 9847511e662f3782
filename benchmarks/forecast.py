"""Forecasts of real runs beside what then happened: `|forecast end - real end| / real duration`.

Real workers score models that take the time which their rows name, so that they are steady, slow down as rows get
dearer, or slow down by a step; and one that computes for about that time. Each job runs twice: without a history, and
with the first run for one. At last one of them waits behind another one on their queue.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_stack import Bench, add, system
from benchmarks.measure import median, wait_until_final
from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.db.ledger import jobs as ledger_jobs
from scorebeat.db.reports import status
from scorebeat.db.reports.forecasts import forecasts
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions
from scorebeat.producer.context import Producer
from scorebeat.producer.requests.enqueue import Request, enqueue

PROCESSES = 2
BATCH_ROWS = 50
LOOK_EVERY = 0.25
COSTS = {
    "steady": "1.0",
    "rows get dearer": "0.5 + share",
    "slows by a step": "CASE WHEN share < 0.5 THEN 0.7 ELSE 1.3 END",
    "computes, and rows get dearer": "0.5 + share",
}
"""SQL: what a row costs by its share of the way, on average 1."""
CODE = """
import time

import numpy as np


class Slow:
    inputs = {"cost": "float64"}
    outputs = {"value": "float64"}

    def __init__(self, files, device):
        pass

    def predict(self, rows):
        cost = rows["cost"].to_numpy()
        time.sleep(float(cost.sum()))
        return {"value": np.asarray(cost)}


class Computing(Slow):
    def predict(self, rows):
        cost = rows["cost"].to_numpy()
        for _ in range(int(cost.sum() * @STEPS@)):
            np.linalg.qr(A)
        return {"value": np.asarray(cost)}


A = np.random.default_rng(1).random((24, 24))
"""
COMPUTING = "computes"
"""What the name of a shape begins with whose rows cost arithmetic, and not time."""


@dataclass(frozen=True)
class Look:
    """A forecast during a run."""

    at: datetime
    earliest: datetime
    likely: datetime
    latest: datetime


@dataclass(frozen=True)
class Watched:
    """A run from its request to its end, and its forecasts."""

    began: datetime
    ended: datetime
    looks: tuple[Look, ...]

    @property
    def seconds(self) -> float:
        return (self.ended - self.began).total_seconds()

    def errors(self, first: float, last: float) -> list[float]:
        """Of the forecasts in this part of the run's time."""
        return [abs((look.likely - self.ended).total_seconds()) / self.seconds for look in self._between(first, last)]

    def covered(self, first: float, last: float) -> float | None:
        """The share of those forecasts whose range had the real end."""
        found = self._between(first, last)
        return sum(look.earliest <= self.ended <= look.latest for look in found) / len(found) if found else None

    def _between(self, first: float, last: float) -> list[Look]:
        return [k for k in self.looks if first <= (k.at - self.began).total_seconds() / self.seconds < last]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=40, help="that a run takes")
    options.add_argument("--batches", type=int, default=160)
    chosen = options.parse_args()
    print(json.dumps(measure(chosen.seconds, chosen.batches), indent=1))


def measure(seconds: float, batches: int) -> dict[str, Any]:
    jobs = {shape: _job(number) for number, shape in enumerate(COSTS)}
    found: dict[str, Any] = {}
    with system(lambda p, folder: _prepare(p, folder, jobs, seconds, batches), PROCESSES) as b:
        for turn in ("first run", "second run"):
            for shape, job in jobs.items():
                _forget(b, job)
                found[f"{shape}, {turn}"] = _summary(_watch(b, job.name))
        for job in jobs.values():
            _forget(b, job)
        ahead = enqueue(b.p, Request(jobs["steady"].name, "benchmark")).run_id
        time.sleep(2)
        found["waits behind another run"] = _summary(_watch(b, jobs["rows get dearer"].name))
        wait_until_final(b, ahead)
    return found


def _job(number: int) -> Job:
    query = f"SELECT id, cost FROM slow_{number}"
    return Job(name=f"slow_{number}", query=query, key=("id",), model=f"slow_{number}", batch_rows=BATCH_ROWS)


def _prepare(p: Producer, folder: Path, jobs: dict[str, Job], seconds: float, batches: int) -> Artifact:
    """Each batch's cost varies by a third of it, as batches of real rows do."""
    rows = batches * BATCH_ROWS
    (folder / "slow.py").write_text(CODE.replace("@STEPS@", str(_steps_per_second())))
    sys.path.append(str(folder))
    for shape, job in jobs.items():
        cost = f"({COSTS[shape]}) * varies * {seconds * PROCESSES / rows}"
        with p.engine.begin() as connection:
            connection.exec_driver_sql(
                f"CREATE TABLE {job.name} AS SELECT id, {cost} AS cost FROM (SELECT id, id::float8 / {rows} AS share,"
                f" 1 + 0.66 * hashint4(id / {BATCH_ROWS}) / 4294967295.0 AS varies"
                f" FROM generate_series(1, {rows}) AS id) AS made"
            )
            connection.exec_driver_sql(f"ALTER TABLE {job.name} ADD PRIMARY KEY (id)")
    classes = {shape: "Computing" if shape.startswith(COMPUTING) else "Slow" for shape in jobs}
    made = [add(p, job, Path(f"slow:{classes[shape]}"), AddOptions(unsteady=True)) for shape, job in jobs.items()]
    with p.engine.begin() as connection:
        ledger_jobs.apply(connection, list(jobs.values()), "benchmark")
    return made[0]


def _steps_per_second() -> int:
    """How often a process can do here, and now, what a computing model does."""
    matrix = np.random.default_rng(1).random((24, 24))
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < 1:
        np.linalg.qr(matrix)
        steps += 1
    return steps


def _forget(b: Bench, job: Job) -> None:
    with b.engine.begin() as connection:
        connection.exec_driver_sql(f"TRUNCATE predictions.{job.name}__{job.model}_v1")


def _watch(b: Bench, job: str) -> Watched:
    run_id = enqueue(b.p, Request(job, "benchmark")).run_id
    looks = []
    while True:
        with b.engine.connect() as connection:
            line = status.get(connection, run_id)
            known = forecasts.evidence(connection)
        if line.is_final:
            break
        found = forecasts.of_run(known, run_id)
        if found.earliest is not None and found.likely is not None and found.latest is not None:
            looks.append(Look(known.now, found.earliest, found.likely, found.latest))
        time.sleep(LOOK_EVERY)
    assert line.state is RunState.SUCCEEDED, f"run {run_id} is {line.state}"
    assert line.finished_at is not None
    return Watched(line.created_at, line.finished_at, tuple(looks))


def _summary(run: Watched) -> dict[str, Any]:
    from_a_third, before = run.errors(1 / 3, 1), run.errors(0, 1 / 3)
    return {
        "seconds": run.seconds,
        "from a third on: median error": median(from_a_third),
        "from a third on: largest error": max(from_a_third),
        "from a third on: share of ranges with the real end": run.covered(1 / 3, 1),
        "before: median error": median(before) if before else None,
        "before: share of ranges with the real end": run.covered(0, 1 / 3),
    }


if __name__ == "__main__":
    main()
