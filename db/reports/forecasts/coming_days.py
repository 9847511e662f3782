"""The coming day of each queue, by the schedules of its jobs and by what their runs took."""

from dataclasses import dataclass
from datetime import datetime
from statistics import median

from sqlalchemy import Connection, text

from scorebeat.core.forecasts import day
from scorebeat.core.forecasts.day import DAY, Day, DueTime, JobOfQueue
from scorebeat.core.jobs.job import Job
from scorebeat.db.connect import database_clock
from scorebeat.db.ledger import jobs
from scorebeat.db.processes import workers

FEWEST_RUNS = 3
"""Runs with rows from which a job's next ones are predicted: fewer prove nothing."""
PAST_RUNS = 20
MOST_DUE = 288
"""Due times in a day, one each five minutes. A job with more is a steady load of its queue."""


@dataclass(frozen=True)
class QueueDay:
    """The coming day of a queue."""

    queue: str
    day: Day
    processes: int
    """That serve it now, or did in the runs before if none does."""
    jobs: tuple[str, ...]
    """Those whose runs are known."""


@dataclass(frozen=True)
class _Past:
    """What the newest runs of a job over all its rows took; times are in seconds."""

    busy: tuple[float, ...]
    empty: int
    """Runs that found no rows."""
    beside: float
    processes: int
    share_busy: float

    @property
    def work(self) -> float:
        """Expected of a run: the median of those with rows, times their share."""
        return median(self.busy) * len(self.busy) / (len(self.busy) + self.empty)


def read(connection: Connection) -> list[QueueDay]:
    """Queues with a job whose runs are known and that has a schedule; paused jobs are left out."""
    now = database_clock.now(connection)
    listed = [row.job for row in jobs.listing(connection) if row.job.due is not None and row.paused_at is None]
    past = {job.name: found for job in listed if (found := _past(connection, job)) is not None}
    alive = workers.alive(connection)
    days = []
    for queue in sorted({job.queue for job in listed if job.name in past}):
        known = [job for job in listed if job.queue == queue and job.name in past]
        there = sum(worker["processes"] or 1 for worker in alive if queue in worker["queues"])
        processes = there or max(past[job.name].processes for job in known)
        able = processes * median(past[job.name].share_busy for job in known)
        days.append(QueueDay(queue, _simulated(known, past, able, now), processes, tuple(job.name for job in known)))
    return days


def _simulated(known: list[Job], past: dict[str, _Past], processes: float, now: datetime) -> Day:
    """Jobs that are due very often take their share of all processes; the others are scored one after another."""
    steady, scheduled = 0.0, []
    for job in known:
        found = past[job.name]
        due = job.due.between(now, now + DAY, MOST_DUE + 1) if job.due is not None else []
        if len(due) > MOST_DUE:
            steady += found.work * len(due) / (due[-1] - now).total_seconds()
        else:
            is_promised = job.deadline is not None or job.results_by is not None
            times = tuple(DueTime(at, job.needed_by(at) if is_promised else None) for at in due)
            scheduled.append(JobOfQueue(job.name, times, found.work, found.beside))
    if processes <= steady:
        return Day(steady / processes, ())
    made = day.simulate(scheduled, processes - steady, now)
    return Day((made.share_busy * (processes - steady) + steady) / processes, made.misses)


def _past(connection: Connection, job: Job) -> _Past | None:
    rows = connection.execute(_PAST, {"job": job.name, "queue": job.queue, "most": PAST_RUNS}).all()
    done = [row for row in rows if row.processes]
    if len(done) < FEWEST_RUNS:
        return None
    shares = [row.busy_seconds / max(row.processes * row.span_seconds, row.busy_seconds, 0.001) for row in done]
    return _Past(
        busy=tuple(row.busy_seconds for row in done),
        empty=len(rows) - len(done),
        # the least, as a run may have waited for others
        beside=min(row.wait_seconds for row in done) + median(row.closing for row in done),
        processes=max(row.processes for row in done),
        share_busy=max(median(shares), 0.01),
    )


_PAST = text(
    "SELECT s.busy_seconds, s.wait_seconds, s.span_seconds, s.processes, greatest(0,"
    " extract(epoch FROM r.finished_at - r.created_at)::float8 - s.wait_seconds - s.span_seconds) AS closing"
    " FROM scorebeat.runs r JOIN scorebeat.run_sums s ON s.run_id = r.id WHERE r.job = :job"
    " AND r.state IN ('succeeded', 'partial') AND r.spec ->> 'queue' = :queue AND r.rank < 2 AND r.tries = 1"
    " AND num_nonnulls(r.row_limit, r.row_filter, r.row_keys) = 0 AND NOT EXISTS (SELECT FROM scorebeat.actions a"
    " WHERE a.subject = 'run ' || r.id AND a.action IN ('run.requeued', 'run.released'))"
    " AND (s.processes > 0 OR s.rows_scored = 0)"
    " ORDER BY r.id DESC LIMIT :most"
)
