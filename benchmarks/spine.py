"""`make bench`: the whole path over 1.5 M rows beside the limit, in alternating rounds."""

import argparse
import json
import os
import platform
import time
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text

from benchmarks import limit
from benchmarks.bench_stack import ITEMS, Bench, bench, peak_megabytes
from benchmarks.changed_rows import changed_rows
from benchmarks.late_rows import late_rows
from benchmarks.measure import RESULTS, Timed, checkpoint, empty_set, keep, median, spread, timed_run
from scorebeat.core.jobs.job import Job
from scorebeat.db.ledger import jobs
from scorebeat.db.processes import workers

EVERY = ITEMS.model_copy(update={"name": "items_every", "rescore": "every-run", "keep": 1})


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=1_500_000)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--every-run-rounds", type=int, default=5, help='pairs of a run and one with "every-run"')
    options.add_argument("--late-rows", type=int, default=5_000_000, help="scored rows beside 1,000 new ones")
    chosen = options.parse_args()
    with bench(chosen.rows) as b:
        wait_for_workers(b)
        result = rounds(b, chosen.rows, chosen.rounds)
        result |= every_run(b, chosen.every_run_rounds)
        result["tick to first claim, seconds"] = spread(ticks(b))
        result["peak memory a worker process, MB"] = peak_megabytes(b.workers["cpu"])
    if chosen.late_rows:
        result["1,000 new rows"] = late_rows(chosen.late_rows)
        result["1,000 new and 1,000 changed rows"] = changed_rows(50_000, chosen.late_rows)
    result["machine"] = {"python": platform.python_version(), "at": datetime.now(UTC).isoformat(timespec="seconds")}
    show(result)
    keep(result, RESULTS / "spine.json")


def wait_for_workers(b: Bench) -> None:
    """Wait until the ledger shows that all queues are served."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with b.engine.connect() as connection:
            if {"cpu", "control", "plan"} <= workers.served(connection):
                return
        time.sleep(0.2)
    raise AssertionError("the workers did not come up")


def rounds(b: Bench, rows: int, count: int) -> dict[str, Any]:
    """Alternating: the whole path, the limit, and the whole path with every other row scored already."""
    warm(b)
    whole: list[Timed] = []
    half: list[Timed] = []
    plain: list[float] = []
    for number in range(1, count + 1):
        empty_set(b)
        whole.append(timed_run(b))
        checkpoint(b)
        plain.append(rows / limit.run(b.p.url, b.artifact, rows))
        score_every_other(b)
        half.append(timed_run(b))
        print(
            f"round {number}: scorebeat {whole[-1].rows_per_second:,.0f} rows/s, limit {plain[-1]:,.0f}, "
            f"every other row {half[-1].rows_per_second:,.0f}",
            flush=True,
        )
    return {
        "rows": rows,
        "scorebeat, rows/s": spread([t.rows_per_second for t in whole]),
        "limit, rows/s": spread(plain),
        "ratio to the limit": spread([t.rows_per_second / p for t, p in zip(whole, plain, strict=True)]),
        "every other row scored: ratio to the limit": spread(
            [t.rows_per_second / p for t, p in zip(half, plain, strict=True)]
        ),
        "enqueue to first claim, seconds": spread([t.first_claim for t in whole]),
        "enqueue to whole plan, seconds": spread([t.planned for t in whole]),
        "split of the processes' time": {part: median([t.split[part] for t in whole]) for part in whole[0].split},
    }


def every_run(b: Bench, count: int) -> dict[str, Any]:
    """Alternating: a run of the default mode over an empty set, and one with `rescore = "every-run"`.

    Both are measured until readers see all rows: the default's to its last commit, the other's to its end.
    """
    apply(b, EVERY)
    timed_run(b, job=EVERY.name)
    default: list[Timed] = []
    every: list[Timed] = []
    for number in range(1, count + 1):
        empty_set(b)
        default.append(timed_run(b))
        checkpoint(b)
        every.append(timed_run(b, job=EVERY.name))
        checkpoint(b)
        print(
            f"pair {number}: default {default[-1].rows_per_second:,.0f} rows/s, every-run "
            f"{every[-1].rows / every[-1].until_closed:,.0f}, of which the key took "
            f"{every[-1].until_closed - every[-1].seconds:.2f} s; load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
    apply(b)
    whole = [t.rows / t.until_closed for t in every]
    return {
        "every-run, rows/s until it is shown": spread(whole),
        "every-run: ratio to the default mode": spread(
            [w / t.rows_per_second for w, t in zip(whole, default, strict=True)]
        ),
        "every-run: seconds from the last commit to its end": spread([t.until_closed - t.seconds for t in every]),
    }


def apply(b: Bench, *more: Job) -> None:
    """Apply the benchmark's job, and these."""
    with b.engine.begin() as connection:
        jobs.apply(connection, [ITEMS, *more], "benchmark")


def warm(b: Bench) -> None:
    """Both processes load the model and open their connections; this is not measured."""
    for _ in range(2):
        empty_set(b)
        timed_run(b)


def score_every_other(b: Bench) -> None:
    with b.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM predictions.items__linear_v1 WHERE id % 2 = 1")
    checkpoint(b)


def ticks(b: Bench, count: int = 5) -> list[float]:
    """Seconds from a due time to the first claim of its run, on an idle system with a row to score."""
    fast = ITEMS.model_copy(update={"schedule": "every 3 seconds"})
    with b.engine.begin() as connection:
        last = connection.execute(text("SELECT coalesce(max(id), 0) FROM scorebeat.runs")).scalar_one()
        connection.exec_driver_sql("DELETE FROM predictions.items__linear_v1 WHERE id % 1000 = 0")
        jobs.apply(connection, [fast], "benchmark")
    until = time.monotonic() + 60
    found: list[float] = []
    while len(found) < count and time.monotonic() < until:
        time.sleep(0.5)
        with b.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM predictions.items__linear_v1 WHERE id = 500 OR id = 700500")
            found = list(connection.execute(_FIRST_CLAIMS, {"last": last}).scalars())
    with b.engine.begin() as connection:
        jobs.apply(connection, [ITEMS], "benchmark")
    return [float(seconds) for seconds in found]


_FIRST_CLAIMS = text(
    "SELECT extract(epoch FROM min(b.claimed_at) - r.due_at) FROM scorebeat.runs r"
    " JOIN scorebeat.batches b ON b.run_id = r.id WHERE r.id > :last AND b.claimed_at IS NOT NULL"
    " GROUP BY r.id ORDER BY r.id OFFSET 1"
)


def show(result: dict[str, Any]) -> None:
    for name, value in result.items():
        if isinstance(value, dict) and "median" in value:
            print(f"{name:45} {value['median']:>12,.3f}  ({value['least']:,.3f} to {value['most']:,.3f})")
        else:
            print(f"{name:45} {json.dumps(value, indent=1) if isinstance(value, dict) else value}")


if __name__ == "__main__":
    main()
