"""`make bench-text`: documents a second of the whole path, beside the limit and the model alone, by both engines."""

import argparse
import platform
import resource
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks import limit
from benchmarks.bench_stack import Bench, add, peak_megabytes, system
from benchmarks.measure import RESULTS, Timed, empty_set, keep, median, spread, timed_run
from benchmarks.programs import CONTEXT, seconds_of
from benchmarks.spine import show, wait_for_workers
from scorebeat.core.jobs.job import Job
from scorebeat.core.jobs.jobs_file import read_file
from scorebeat.db.connect.engine import data_connection
from scorebeat.examples.complaints import data, setup, table, train
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions
from scorebeat.models.engines import ENGINES
from scorebeat.models.formats import registry
from scorebeat.models.scoring import score_rows
from scorebeat.models.store.cache import HOME
from scorebeat.producer.context import Producer
from scorebeat.worker.lifecycle.devices.pin import one_math_thread, pin_to_core

SET = "complaints__sentiment_v1"
LIMIT = limit.Job(
    "SELECT id, consumer_complaint_narrative AS review FROM complaints"
    " WHERE consumer_complaint_narrative IS NOT NULL AND id BETWEEN {first} AND {last}",
    "label text, negative float8, neutral float8, positive float8",
    5_000,
)
ALONE_MOST = 100_000
"""Rows of the table up to which the model alone is measured: each of its processes holds all texts."""
AT_ONCE = 20_000


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=20_000, help="rows of the table; a tenth has no text")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--processes", type=int, default=1, help="that score, on a core each, in both measurements")
    chosen = options.parse_args()
    (job,) = read_file(setup.JOBS).jobs
    job = job.model_copy(update={"schedule": None})
    with system(lambda p, folder: _prepare(p, folder, job, chosen.rows), chosen.processes) as b:
        wait_for_workers(b)
        result = rounds(b, job, chosen.rows, chosen.processes, chosen.rounds)
    result["engine"] = b.artifact.engine.to_json()
    result["machine"] = {"python": platform.python_version(), "at": datetime.now(UTC).isoformat(timespec="seconds")}
    show(result)
    keep(result, RESULTS / "text.json")


def rounds(b: Bench, job: Job, rows: int, processes: int, count: int) -> dict[str, Any]:
    """Alternating: the whole path, the limit, and the model alone in as many processes over the same batches."""
    alone: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    whole: list[Timed] = []
    limits, peaks = list[float](), [0.0]
    for _ in range(2):  # every process loads the model and opens its connections; this is not measured
        empty_set(b, SET)
        timed_run(b, processes, job.name)
    for number in range(1, count + 1):
        empty_set(b, SET)
        whole.append(timed_run(b, processes, job.name))
        limits.append(whole[-1].rows / limit.run(b.p.url, b.artifact, rows, processes, LIMIT))
        for engine in ENGINES if rows <= ALONE_MOST else ():
            found = model_alone(b, job.batch_rows, processes, engine)
            alone[engine].append(found.documents_per_second)
            peaks += found.megabytes
        speeds = {"scorebeat": whole[-1].rows_per_second, "limit": limits[-1]}
        speeds |= {f"{engine} alone": found[-1] for engine, found in alone.items() if found}
        print(f"round {number}: {', '.join(f'{name} {speed:,.0f}' for name, speed in speeds.items())} documents/s",
              flush=True)  # fmt: skip
    return {
        "documents": whole[0].rows,
        "processes": processes,
        "scorebeat, documents/s": spread([t.rows_per_second for t in whole]),
        "seconds from enqueue to the last commit": spread([t.seconds for t in whole]),
        "the limit, documents/s": spread(limits),
        "ratio to the limit": spread([t.rows_per_second / one for t, one in zip(whole, limits, strict=True)]),
        **{f"{engine} alone, documents/s": spread(found) for engine, found in alone.items() if found},
        "enqueue to first claim, seconds": spread([t.first_claim for t in whole]),
        "split of the processes' time": {part: median([t.split[part] for t in whole]) for part in whole[0].split},
        "peak memory a worker process, MB": peak_megabytes(b.workers["cpu"]),
        "peak memory of the model alone, MB": max(peaks),
    }


@dataclass(frozen=True)
class Alone:
    """The model without database, from the start signal to the end of the last batch."""

    documents_per_second: float
    megabytes: list[float]
    """Peak memory of each process."""


def model_alone(b: Bench, batch_rows: int, processes: int, engine: str) -> Alone:
    """Score all texts in batches as large as the job's; a process takes the next batch when it is done."""
    following, peaks = CONTEXT.Value("i", 0), CONTEXT.SimpleQueue()
    work = [_Work(b.p.url, b.artifact, batch_rows, core, engine) for core in range(processes)]
    seconds = seconds_of(_run, work, following, peaks)
    found = [peaks.get() for _ in work]
    return Alone(found[0][1] / seconds, [megabytes for megabytes, _ in found])


@dataclass(frozen=True)
class _Work:
    url: str
    artifact: Artifact
    batch_rows: int
    core: int
    engine: str


def _run(work: _Work, barrier: Any, following: Any, peaks: Any) -> None:
    one_math_thread()
    pin_to_core(work.core)
    model = registry.load(work.artifact, "cpu", work.engine, HOME)
    batches = _batches(work.url, work.batch_rows)
    score_rows.predict(model, batches[0].slice(0, 100))
    barrier.wait()
    while (index := _next(following)) < len(batches):
        score_rows.predict(model, batches[index])
    barrier.wait()
    peaks.put((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, sum(map(len, batches))))


def _next(following: Any) -> int:
    with following.get_lock():
        following.value += 1
        return int(following.value) - 1


def _batches(url: str, batch_rows: int) -> list[pa.RecordBatch]:
    with data_connection(url) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT consumer_complaint_narrative AS review FROM complaints"
            " WHERE consumer_complaint_narrative IS NOT NULL ORDER BY id"
        )
        whole = cursor.fetch_arrow_table().combine_chunks()
        connection.commit()
    return [b for b in whole.to_batches(max_chunksize=batch_rows) if b.num_rows]


def fill(url: str, rows: int) -> None:
    """Store the complaints, some thousands at once."""
    some = data.complaints(rows)
    with data_connection(url) as connection, connection.cursor() as cursor:
        while part := [asdict(complaint) for complaint in islice(some, AT_ONCE)]:
            cursor.adbc_ingest("complaints", pa.Table.from_pylist(part), mode="append")
            connection.commit()


def _prepare(p: Producer, folder: Path, job: Job, rows: int) -> Artifact:
    with p.engine.begin() as connection:
        table.create(connection)
    fill(p.url, rows)
    with p.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE complaints")
    model, accuracy = train.train()
    print(f"{rows:,} rows; accuracy of the model {accuracy:.3f}", flush=True)
    train.write_skops(model, folder / "sentiment.skops")
    return add(p, job, folder / "sentiment.skops", AddOptions(train.INPUTS))


if __name__ == "__main__":
    main()
