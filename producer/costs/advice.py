"""A recommendation for `batch_rows` and the number of processes, with the measurements that it comes from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import median

from sqlalchemy import Connection

from scorebeat.core.jobs.job import Job
from scorebeat.db.ledger import jobs
from scorebeat.db.reports.forecasts import batch_times
from scorebeat.db.reports.forecasts.batch_times import BatchTime, RunTime
from scorebeat.producer.costs.batch_fit import BatchFit, fit, share_of_predict

SMALL_SHARE = 0.10
"""Share of fixed costs from which on batches are too small."""
GOOD_SHARE = 0.05
"""Share of fixed costs that a recommended size has."""
LONGEST_BATCH = 30.0
"""Seconds of a recommended batch: what a dead process loses at most is short."""
FURTHEST = 4
"""A recommended size is at most so many times the largest that was measured."""
BATCHES_A_PROCESS = 4
"""Least batches a process in a run, so that no process waits long for the last one."""
MOST_ROWS = 1_000_000
"""The largest `batch_rows` of a job."""
FULL = 0.8
"""Share of the time before the deadline in which the processes may be busy: the rest is for faults."""


@dataclass(frozen=True)
class Advice:
    """What was measured, and what would be cheaper or in time; texts for people."""

    measured: tuple[str, ...]
    recommended: tuple[str, ...]
    unknown: tuple[str, ...]
    """Why something is not recommended."""
    batch_rows: int | None = None
    """A better size; None if the present one is good, or nothing shows another."""
    processes: int | None = None
    """A better number of processes; None likewise."""
    small_batches_seconds: float | None = None
    """Fixed seconds of the measured batches, if they are so small that it counts; None: not known, or not so small."""


def of_job(connection: Connection, name: str) -> Advice:
    """Advice for a job of the ledger. Raises UnknownName."""
    job = jobs.get_any(connection, name)
    device, times = batch_times.batch_times(connection, name)
    return advise(job, device, times, batch_times.run_times(connection, name))


def advise(job: Job, device: str | None, times: Sequence[BatchTime], runs: Sequence[RunTime]) -> Advice:
    """What the times show; nothing is recommended that they do not."""
    if not times or not runs:
        return Advice((), (), ("no run of late has scored rows without a fault, so there is nothing to learn from",))
    measured, recommended, unknown = [], [], []
    usual = _usual(runs)
    typical_rows = median(batch.rows for batch in times)
    measured.append(
        f"batches of late: {len(times)} on {device}, median {typical_rows:,.0f} rows in "
        f"{median(batch.seconds for batch in times):.3g} s; the model predicted in {share_of_predict(times):.0%} of "
        "that time"
    )
    measured.append(
        f"runs of late: {len(runs)}, median {usual.rows:,} rows in {usual.took.total_seconds():,.3g} s, by "
        f"{_processes(usual.processes)}, busy in {_busy(usual):.0%} of the time from the first claim to the last commit"
    )
    found = fit(times)
    size = None
    fixed_seconds = None
    if isinstance(found, str):
        unknown.append(f"batch_rows: {found}")
    else:
        measured.append(
            f"a batch costs {_seconds(found.fixed)} (± {_seconds(found.fixed_error)}) beside its rows, and 1,000 rows "
            f"{_seconds(found.per_row * 1000)}: by {found.batches} batches of {found.smallest:,} to "
            f"{found.largest:,} rows"
        )
        size = better_size(job, found, usual)
        if found.share_fixed(typical_rows) > SMALL_SHARE:
            fixed_seconds = found.fixed * len(times)
        if size is not None:
            recommended.append(
                f"batch_rows = {size} instead of {job.batch_rows}: {found.share_fixed(size):.0%} of a batch's time "
                f"would not depend on its rows, instead of {found.share_fixed(job.batch_rows):.0%}"
            )
    processes, why = better_processes(job, usual)
    (unknown if processes is None else recommended).append(why)
    return Advice(tuple(measured), tuple(recommended), tuple(unknown), size, processes, fixed_seconds)


def better_size(job: Job, found: BatchFit, usual: RunTime) -> int | None:
    """A size of batches by which less time goes to what does not depend on rows; None if the present one is good."""
    if found.share_fixed(job.batch_rows) <= SMALL_SHARE:
        return None
    wanted = found.fixed * (1 - GOOD_SHARE) / GOOD_SHARE / found.per_row
    bounds = (
        LONGEST_BATCH / found.per_row,
        FURTHEST * found.largest,
        usual.rows / (usual.processes * BATCHES_A_PROCESS),
        MOST_ROWS,
    )
    size = _rounded(min(wanted, *bounds))
    return size if size >= 1.5 * job.batch_rows else None


def better_processes(job: Job, usual: RunTime) -> tuple[int | None, str]:
    """Another number of processes, and why; None if nothing shows that another is better."""
    busy, before = usual.busy_seconds, usual.took - usual.scoring
    if job.deadline is not None:
        left = (job.deadline - before).total_seconds() * FULL
        needed = math.ceil(busy / left) if left > 0 else 0
        within = f"in {FULL:.0%} of the deadline of {_seconds(job.deadline.total_seconds())}"
        if needed > usual.processes:
            return needed, f"{needed} processes instead of {usual.processes}: a run's {busy:,.0f} s then fit {within}"
        if 0 < needed < usual.processes:
            return needed, f"{_processes(needed)} instead of {usual.processes} would do: {within}"
        return None, f"processes: {usual.processes} are right for the deadline, or it cannot be met by more of them"
    if usual.batches < usual.processes * 2 and usual.processes > 1:
        return None, f"processes: a run has {usual.batches} batches, too few to judge {usual.processes} processes by"
    useful = max(1, math.ceil(busy / max(usual.scoring.total_seconds(), 1e-9)))
    if useful < usual.processes and _busy(usual) < 1 / 2:
        return useful, (
            f"{_processes(useful)} instead of {usual.processes} would do: they had a batch in {_busy(usual):.0%} of "
            "the time"
        )
    return None, (
        f"processes: the job has no `deadline`, so nothing shows that {usual.processes} "
        f"{'are' if usual.processes > 1 else 'is'} too few"
    )


def _usual(runs: Sequence[RunTime]) -> RunTime:
    """A run with the medians of these; the present number of processes is that of the newest."""
    return RunTime(
        run=runs[0].run,
        rows=int(median(run.rows for run in runs)),
        batches=int(median(run.batches for run in runs)),
        processes=runs[0].processes,
        took=timedelta(seconds=median(run.took.total_seconds() for run in runs)),
        scoring=timedelta(seconds=median(run.scoring.total_seconds() for run in runs)),
        busy_seconds=median(run.busy_seconds for run in runs),
    )


def _busy(run: RunTime) -> float:
    return min(1.0, run.busy_seconds / max(run.processes * run.scoring / timedelta(seconds=1), 1e-9))


def _processes(count: int) -> str:
    return f"{count} process{'es' * (count != 1)}"


def _rounded(rows: float) -> int:
    """Two significant digits, rounded down."""
    if rows < 1:
        return 1
    unit: int = 10 ** max(0, math.floor(math.log10(rows)) - 1)
    return int(rows // unit * unit)


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:,.3g} s"
