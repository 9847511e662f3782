"""`make bench-batches`: batches a second when a batch has few rows, and where the time of one goes."""

import argparse
import os
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from sqlalchemy import text

from benchmarks.bench_stack import ITEMS, Bench, bench
from benchmarks.measure import RESULTS, Timed, empty_set, keep, median, spread, timed_run
from benchmarks.spine import show, wait_for_workers
from scorebeat.broker.send import send_batches, waiting
from scorebeat.db.ledger import jobs


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--batches", type=int, default=1_000, help="batches a run")
    options.add_argument("--batch-rows", type=int, nargs="*", default=[500, 2_000, 10_000])
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    result: dict[str, Any] = {}
    with bench(chosen.batches * max(chosen.batch_rows)) as b:
        wait_for_workers(b)
        for rows in chosen.batch_rows:
            result |= rounds(b, rows, chosen.batches, chosen.rounds)
        result |= messages(b, chosen.batches, chosen.rounds)
    show(result)
    keep(result, RESULTS / "small_batches.json")


def rounds(b: Bench, batch_rows: int, batches: int, count: int) -> dict[str, Any]:
    """Runs of `batches` batches of `batch_rows` rows over an empty set, after one that is not counted."""
    query = f"SELECT id, a, b, c, d FROM items WHERE id <= {batches * batch_rows}"
    with b.engine.begin() as connection:
        jobs.apply(connection, [ITEMS.model_copy(update={"query": query, "batch_rows": batch_rows})], "benchmark")
    timed: list[Timed] = []
    used: list[dict[str, float]] = []
    for number in range(count + 1):
        empty_set(b)
        before = processor_seconds(b)
        one = timed_run(b)
        after = processor_seconds(b)
        if number:
            timed.append(one)
            used.append({part: (after[part] - before.get(part, 0.0)) * 1_000 / batches for part in after})
    return {
        f"{batch_rows} rows: batches/s": spread([batches / one.seconds for one in timed]),
        f"{batch_rows} rows: share of the processes' time": {
            part: median([one.split[part] for one in timed]) for part in timed[0].split
        },
        f"{batch_rows} rows: processors' ms a batch": {part: median([one[part] for one in used]) for part in used[0]},
    }


def messages(b: Bench, batches: int, count: int) -> dict[str, Any]:
    """Messages of batches that are done, so that only Celery's share and a claim that finds nothing are left."""
    with b.engine.connect() as connection:
        done = text("SELECT id FROM scorebeat.batches WHERE state = 'committed' ORDER BY id DESC LIMIT :count")
        ids = list(connection.execute(done, {"count": batches}).scalars())
    rates: list[float] = []
    used: list[dict[str, float]] = []
    for _ in range(count):
        before, began = processor_seconds(b), time.perf_counter()
        send_batches(b.p.app, "cpu", ids)
        while waiting(b.p.app, "cpu"):
            time.sleep(0.05)
        rates.append(len(ids) / (time.perf_counter() - began))
        time.sleep(1)  # those that were taken last, and their events
        after = processor_seconds(b)
        used.append({part: (after[part] - before[part]) * 1_000 / len(ids) for part in after})
    return {
        "a message of a batch that is done: messages/s": spread(rates),
        "a message of a batch that is done: processors' ms": {
            part: median([u[part] for u in used]) for part in used[0]
        },
    }


def processor_seconds(b: Bench) -> dict[str, float]:
    """CPU seconds so far of the workers' processes by worker, and of all others below this one by program."""
    workers = {process.pid: name for name, process in b.workers.items()}
    found: defaultdict[str, float] = defaultdict(float)
    for pid, names in _below(os.getpid(), ()):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:  # it ended meanwhile
            continue
        program, fields = stat[stat.index("(") + 1 : stat.rindex(")")], stat[stat.rindex(")") + 2 :].split()
        above = next((workers[one] for one in names if one in workers), None)
        owner = f"{above}, processes" if above else workers.get(pid)
        name = owner or ("this process" if pid == os.getpid() else "postgres" if program == "postgres" else "broker")
        found[name] += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return dict(found)


def _below(pid: int, names: tuple[int, ...]) -> list[tuple[int, tuple[int, ...]]]:
    children = [int(one) for path in Path(f"/proc/{pid}/task").glob("*/children") for one in path.read_text().split()]
    return [(pid, names), *(one for child in children for one in _below(child, (*names, pid)))]


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"{time.monotonic() - began:.0f} s")
