"""`make bench-ledger`: what the ledger and the broker carry and cost, without models, over a million old batches."""

import argparse
import math
import multiprocessing
import os
import platform
import queue
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from benchmarks.bench_stack import ITEMS, Bench, add, fill_items, servers, train, workers
from benchmarks.ledger.costs import PRELOAD, Meter, spent
from benchmarks.ledger.history import History, fill
from benchmarks.ledger.others import Others, control, look, open_run, plan
from benchmarks.ledger.workers import QUEUE, Played, Sample, play
from benchmarks.measure import RESULTS, empty_set, keep, timed_run
from benchmarks.spine import wait_for_workers
from scorebeat.broker.send import waiting
from scorebeat.core.jobs.job import Job
from scorebeat.db.connect import database_clock
from scorebeat.db.ledger import batches as ledger_batches
from scorebeat.db.ledger import jobs as ledger_jobs
from scorebeat.db.ledger import model_versions, runs
from scorebeat.db.records import retention
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions
from scorebeat.producer.context import Producer
from scorebeat.producer.dispatch import dispatch
from scorebeat.producer.versions import prediction_tables

CONTEXT: ForkServerContext = multiprocessing.get_context("forkserver")
MODEL = "linear"
IMPORTED_ONCE = ["benchmarks.ledger.others", "benchmarks.ledger.workers", "benchmarks.spine"]
"""What the processes need takes seconds to import; it is done while the history is made."""
READY_WITHIN = 300
"""Seconds until all are connected, or ended."""
SCORERS_A_WORKER = 8
"""Scoring processes of one worker, whose parent has one connection for all of them."""
OTHERS = 40
"""Connections of everything that does not score."""
REAL = ITEMS.model_copy(update={"name": "real", "batch_rows": 10})
SPENT_IN = "spent"


def main(arguments: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--workers", default="8,64,512", help="numbers of scoring processes, one after the other")
    options.add_argument("--batches", type=int, default=1_000_000, help="old ones in the ledger")
    options.add_argument("--idle", type=int, default=10_000, help="old ticks that found nothing, after them")
    options.add_argument("--batches-a-run", type=int, default=100)
    options.add_argument("--jobs", type=int, default=20)
    options.add_argument("--pause", type=float, default=4.0, help="seconds from a claim to its commit, on average")
    options.add_argument("--seconds", type=float, default=20.0, help="that are measured with the pause")
    options.add_argument("--full-seconds", type=float, default=12.0, help="that are measured without a pause")
    options.add_argument("--clients", type=int, default=4, help="operating system processes that play the workers")
    options.add_argument("--real-batches", type=int, default=500, help="that real workers score in the end; 0: none")
    options.add_argument("--results", type=Path, default=RESULTS / "ledger.json")
    chosen = options.parse_args(arguments)
    result = measure(chosen)
    result["machine"] = {
        "python": platform.python_version(), "cores": os.cpu_count(), "load before": os.getloadavg()[2],
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    keep(result, chosen.results)
    for fault in result["faults"]:
        print(f"FAULT: {fault}")
    return 1 if result["faults"] else 0


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    sizes = [int(size) for size in chosen.workers.split(",")]
    size = History(chosen.batches, chosen.batches_a_run, chosen.idle)
    _allow_many_files()
    CONTEXT.set_forkserver_preload(IMPORTED_ONCE)
    forkserver.ensure_running()
    with servers(PRELOAD | {"max_connections": str(_connections(max(sizes)) + OTHERS)}) as (p, folder):
        listed, artifact = _prepare(p, folder, chosen)
        seconds = fill(p.engine, size)
        print(f"{size}\nmade in {seconds:.0f} s", flush=True)
        meter = Meter(p, folder / "data")
        result: dict[str, Any] = {"history": str(size), "bytes a batch": meter.bytes_of_batches()}
        _show("bytes of an old batch in the ledger", result["bytes a batch"])
        others = Others(p.settings, listed, MODEL, chosen.batches_a_run, 10_000)
        result["memory of a message, bytes"] = _message(p, meter, others)
        _show("memory of a message in the broker", {"bytes": result["memory of a message, bytes"]})
        before = meter.whole_scans()
        result["sizes"] = {str(scorers): _of_size(p, meter, others, scorers, chosen) for scorers in sizes}
        result["read whole"] = _read_whole(before, meter.whole_scans())
        _show("tables read from one end to the other meanwhile", result["read whole"])
        if chosen.real_batches:
            result["real workers"] = _real(p, folder, meter, artifact, chosen.real_batches)
            _show("two real worker processes, empty of other work", result["real workers"])
        result["prune"] = _prune(p)
        _show("prune", result["prune"])
        result["faults"] = _faults(result)
    return result


def _allow_many_files() -> None:
    """Each of these processes has some hundred connections."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _connections(scorers: int) -> int:
    return 2 * scorers + math.ceil(scorers / SCORERS_A_WORKER)


def _prepare(p: Producer, folder: Path, chosen: argparse.Namespace) -> tuple[tuple[Job, ...], Artifact]:
    """Jobs with their prediction tables, all of one model; the first is scored by real workers in the end."""
    fill_items(p.engine, max(1, chosen.real_batches) * REAL.batch_rows)
    artifact = add(p, REAL, train(folder), AddOptions(("a", "b", "c", "d")))
    listed = tuple(
        # due once a month: lists of jobs show when, and no run of theirs begins meanwhile
        ITEMS.model_copy(update={"name": f"job_{number:03}", "schedule": "30 23 1 1 *"})
        for number in range(1, chosen.jobs + 1)
    )
    with p.engine.begin() as connection:
        ledger_jobs.apply(connection, [REAL, *listed], "benchmark")
        version = model_versions.get(connection, MODEL, 1)
        for job in listed:
            prediction_tables.ensure(connection, prediction_tables.fit(connection, p.url, job, version))
    return listed, artifact


def _message(p: Producer, meter: Meter, others: Others) -> float:
    """Bytes of the broker's memory that a message takes while it waits; the first simulated workers take them."""
    before = meter.broker_bytes()
    for job in others.jobs:
        open_run(p, others, job)
    dispatch(p, QUEUE)
    return (meter.broker_bytes() - before) / max(waiting(p.app, QUEUE), 1)


def _of_size(p: Producer, meter: Meter, others: Others, scorers: int, chosen: argparse.Namespace) -> dict[str, Any]:
    """With so many scoring processes: at the rate that the pause makes, then as fast as all can."""
    pause, stop, found = CONTEXT.Value("d", chosen.pause, lock=False), CONTEXT.Event(), CONTEXT.Queue()
    each = math.ceil(scorers / min(chosen.clients, scorers))
    played = [
        Played(p.settings, first, min(each, scorers - first), SCORERS_A_WORKER) for first in range(0, scorers, each)
    ]
    parts: list[Callable[..., None]] = [plan, control, look]
    ready = CONTEXT.Barrier(len(played) + len(parts) + 1)
    processes = [CONTEXT.Process(target=play, args=(one, ready, pause, stop, found)) for one in played]
    processes += [CONTEXT.Process(target=part, args=(others, ready, stop, found)) for part in parts]
    began = time.monotonic()
    with _running(processes, stop):
        ready.wait(READY_WITHIN)
        result: dict[str, Any] = {"seconds until all were connected": time.monotonic() - began}
        windows = {}
        for name, seconds, wait in (
            (f"a batch takes {chosen.pause:g} s", chosen.seconds, chosen.pause),
            ("no pause", chosen.full_seconds, 0.0),
        ):
            pause.value = wait
            time.sleep(1.5 * chosen.pause + 1)  # until nobody waits as before
            meter.forget_statements()
            first = meter.read()
            time.sleep(seconds)
            windows[name] = (first, meter.read(), meter.statements())
        result["connections"] = sum(meter.sessions().values())
        result["private memory of a session, MB"] = meter.private_megabytes()
        stop.set()
        taken = [_taken(processes, found) for _ in processes]
    samples = [sample for some, _ in taken for sample in some]
    for name, (first, last, statements) in windows.items():
        times = _within(samples, first.at, last.at)
        costs = spent(first, last, len(times.get("commit", ())))
        result[name] = {
            "batches": costs.batches, SPENT_IN: costs.a_batch, "times": {what: _spread(t) for what, t in times.items()},
            "statements": [one.by_batch(costs.batches) for one in statements],
        }  # fmt: skip
        _show(f"{scorers} scoring processes, {name}, {costs.batches:,} batches", costs.a_batch)
        for what, some in sorted(result[name]["times"].items()):
            print(f"    {what:42} " + "  ".join(f"{k} {v:,.1f}" for k, v in some.items()))
    _show(f"{scorers} scoring processes", {k: v for k, v in result.items() if not isinstance(v, dict)})
    return result


@contextmanager
def _running(processes: Sequence[ForkServerProcess], stop: Any) -> Iterator[None]:
    for process in processes:
        process.start()
    try:
        yield
    finally:
        stop.set()
        for process in processes:
            process.join(READY_WITHIN)
            process.terminate()


def _taken(processes: Sequence[ForkServerProcess], found: Any) -> tuple[list[Sample], float]:
    """What one of the processes found. Raises AssertionError if one died instead."""
    while True:
        try:
            taken: tuple[list[Sample], float] = found.get(timeout=1)
        except queue.Empty:
            assert not any(process.exitcode for process in processes), "a process of the benchmark died"
        else:
            return taken


def _within(samples: Sequence[Sample], first: float, last: float) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for what, ended, seconds in samples:
        if first <= ended < last:
            found[what].append(1000 * seconds)
    return found


def _spread(times: Sequence[float]) -> dict[str, float]:
    """Milliseconds."""
    ordered = sorted(times)
    at = {share: ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.99)}
    return {"count": len(ordered), "p50": at[0.5], "p99": at[0.99], "most": ordered[-1]}


def _read_whole(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> dict[str, str]:
    """By table: how often, and how many of its rows each time, on average."""
    found = {}
    for table, (scans, rows) in sorted(after.items()):
        old_scans, old_rows = before.get(table, (0, 0))
        if scans > old_scans and rows > old_rows:
            found[table] = f"{scans - old_scans} times, {(rows - old_rows) / (scans - old_scans):,.0f} rows each"
    return found


def _real(p: Producer, folder: Path, meter: Meter, artifact: Artifact, batches: int) -> dict[str, Any]:
    """What real workers cost, with rows, a small model and Celery, at ten rows a batch."""
    with p.engine.begin() as connection:  # others' runs would be scored, too
        for run_id in runs.open_of_version(connection, MODEL, 1):
            runs.cancel(connection, run_id, "benchmark")
            ledger_batches.cancel(connection, run_id)
    with workers(p.settings, folder, 2) as started:
        b = Bench(p, artifact, started)
        wait_for_workers(b)
        timed_run(b, job=REAL.name)  # models are loaded
        empty_set(b, f"{REAL.name}__{MODEL}_v1")
        commands, first = meter.commands(), meter.read()
        time.sleep(4)
        idle = spent(first, meter.read(), 1)
        quiet = {name: count - commands.get(name, 0) for name, count in meter.commands().items()}
        commands, first = meter.commands(), meter.read()
        run = timed_run(b, job=REAL.name)
        costs = spent(first, meter.read(), batches)
        calls = {
            name: round(
                (count - commands.get(name, 0) - quiet.get(name, 0) * costs.seconds / idle.seconds) / batches, 2
            )
            for name, count in meter.commands().items()
        }
        sessions = meter.sessions()
    return {
        **costs.a_batch,
        "batches/s": batches / run.seconds,
        "PostgreSQL, cores used while idle": idle.cpu / idle.seconds,
        "broker commands/s while idle": sum(quiet.values()) / idle.seconds,
        "commands a message": sum(calls.values()),
        "commands by name": {
            name: calls[name] for name in sorted(calls, key=lambda n: -calls[n]) if calls[name] >= 0.05
        },
        "connections": {name: count for name, count in sessions.items() if "cpu@" in name},
    }


def _prune(p: Producer) -> dict[str, float]:
    """One piece, as `scorebeat prune --older-than 90d` deletes it."""
    (kind,) = (kind for kind in retention.KINDS if kind.name == "batches")
    with p.engine.begin() as connection:
        cutoff = database_clock.now(connection) - timedelta(days=90)
        began = time.monotonic()
        deleted = retention.delete_piece(connection, kind, cutoff)
        return {"batches of a piece": deleted, "ms of a piece": 1000 * (time.monotonic() - began)}


def _faults(result: dict[str, Any]) -> list[str]:
    """What must not be: the ledger's traffic reads no million of rows, and nothing is refused or times out."""
    found = (
        [f"the table batches was read whole: {result['read whole']['batches']}"]
        if "batches" in result["read whole"]
        else []
    )
    for scorers, size in result["sizes"].items():
        for phase in size.values():
            if isinstance(phase, dict):
                found += [f"{scorers} scoring processes: {what}" for what in phase["times"] if " failed: " in what]
                found += [] if phase["batches"] else [f"{scorers} scoring processes: no batch was committed"]
    return found


def _show(title: str, values: dict[str, Any]) -> None:
    print(title)
    for name, value in values.items():
        print(f"    {name:42} {value if not isinstance(value, float) else format(value, ',.2f')}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
