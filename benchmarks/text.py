"""`make bench-text`: documents a second of the model alone, and of the whole path over the same documents."""

import argparse
import json
import platform
import resource
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.bench_stack import Bench, add, peak_megabytes, system
from benchmarks.measure import Timed, empty_set, median, spread, timed_run
from benchmarks.programs import CONTEXT, seconds_of
from benchmarks.spine import show, wait_for_workers
from scorebeat.core.jobs.job import Job
from scorebeat.core.jobs.jobs_file import read_jobs
from scorebeat.db.connect.engine import data_connection
from scorebeat.examples.complaints import data, setup, table, train
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions
from scorebeat.models.formats import registry
from scorebeat.models.scoring import score_rows
from scorebeat.producer.context import Producer
from scorebeat.worker.lifecycle.pin import one_math_thread, pin_to_core

RESULTS = Path(__file__).parent / "results" / "text.json"
SET = "complaints__sentiment_v1"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=20_000, help="rows of the table; a tenth has no text")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--processes", type=int, default=1, help="that score, on a core each, in both measurements")
    chosen = options.parse_args()
    (job,) = read_jobs(setup.JOBS)
    job = job.model_copy(update={"schedule": None})
    with system(lambda p, folder: _prepare(p, folder, job, chosen.rows), chosen.processes) as b:
        wait_for_workers(b)
        result = rounds(b, job, chosen.processes, chosen.rounds)
    result["machine"] = {"python": platform.python_version(), "at": datetime.now(UTC).isoformat(timespec="seconds")}
    show(result)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2))
    print(f"written to {RESULTS}")


def rounds(b: Bench, job: Job, processes: int, count: int) -> dict[str, Any]:
    """Alternating: the whole path, and the model alone in as many processes over the same batches."""
    alone, peaks = [], [0.0]
    whole: list[Timed] = []
    for _ in range(2):  # every process loads the model and opens its connections; this is not measured
        empty_set(b, SET)
        timed_run(b, processes, job.name)
    for number in range(1, count + 1):
        empty_set(b, SET)
        whole.append(timed_run(b, processes, job.name))
        found = model_alone(b, job.batch_rows, processes)
        alone.append(found.documents_per_second)
        peaks += found.megabytes
        print(
            f"round {number}: scorebeat {whole[-1].rows_per_second:,.0f} documents/s, model alone {alone[-1]:,.0f}",
            flush=True,
        )
    return {
        "documents": whole[0].rows,
        "processes": processes,
        "scorebeat, documents/s": spread([t.rows_per_second for t in whole]),
        "model alone, documents/s": spread(alone),
        "ratio to the model alone": spread([t.rows_per_second / a for t, a in zip(whole, alone, strict=True)]),
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


def model_alone(b: Bench, batch_rows: int, processes: int) -> Alone:
    """Score all texts in batches as large as the job's; a process takes the next batch when it is done."""
    following, peaks = CONTEXT.Value("i", 0), CONTEXT.SimpleQueue()
    work = [_Work(b.p.url, b.artifact, batch_rows, core) for core in range(processes)]
    seconds = seconds_of(_run, work, following, peaks)
    found = [peaks.get() for _ in work]
    return Alone(found[0][1] / seconds, [megabytes for megabytes, _ in found])


@dataclass(frozen=True)
class _Work:
    url: str
    artifact: Artifact
    batch_rows: int
    core: int


def _run(work: _Work, barrier: Any, following: Any, peaks: Any) -> None:
    one_math_thread()
    pin_to_core(work.core)
    model = registry.load(work.artifact)
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


def _prepare(p: Producer, folder: Path, job: Job, rows: int) -> Artifact:
    with p.engine.begin() as connection:
        table.create(connection)
        table.fill(connection, data.complaints(rows))
    with p.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE complaints")
    model, accuracy = train.train()
    print(f"{rows:,} rows; accuracy of the model {accuracy:.3f}", flush=True)
    train.write_skops(model, folder / "sentiment.skops")
    return add(p, job, folder / "sentiment.skops", AddOptions(train.INPUTS))


if __name__ == "__main__":
    main()
