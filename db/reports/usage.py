"""What runs used, from the sums of noted runs and the batches of the others; and what workers were alive for."""

from dataclasses import dataclass
from datetime import date

from sqlalchemy import Connection, text

from scorebeat.core.prices.price_list import CPU, Used
from scorebeat.core.states import AttemptEnd
from scorebeat.db.records.usage import COMMITTED, DAY, HARDWARE


@dataclass(frozen=True)
class Usage:
    """Attempts of one job, day, queue and device that ended alike."""

    job: str
    end: AttemptEnd
    attempts: int
    rows: int
    """Rows that were scored; of other attempts those that they left to do, or that were deleted."""
    used: Used


@dataclass(frozen=True)
class RunCount:
    """Runs of a job that began in a month."""

    job: str
    month: date
    runs: int
    unmeasured: int
    """Of them: with attempts of a version of Scorebeat that measured no time."""


@dataclass(frozen=True)
class WorkerTime:
    """What workers were alive for in a month, and what of it they had batches."""

    month: date
    device: str
    alive: tuple[Used, ...]
    """By queue; the day is the first of the month."""
    busy_seconds: float

    @property
    def alive_seconds(self) -> float:
        return sum(one.device_seconds for one in self.alive)

    @property
    def idle_seconds(self) -> float | None:
        """None if more was used than measured: workers of an older version did not record their time."""
        idle = self.alive_seconds - self.busy_seconds
        return idle if idle >= 0 else None


# run_usage has the times of batches of runs whose end was noted; those of the few others are added up
_LIVE = (
    f"SELECT r.id AS run_id, {COMMITTED} AS outcome, device, r.job, {DAY} AS day, r.spec ->> 'queue' AS queue,"
    " attempts, device_seconds, cpu_seconds, rows FROM (SELECT run_id, device, count(*) AS attempts,"
    " sum(device_seconds) AS device_seconds, sum(cpu_seconds) AS cpu_seconds, sum(rows_scored) AS rows"
    f" FROM (SELECT run_id, {HARDWARE} AS device, device_seconds, coalesce(cpu_seconds, 0) AS cpu_seconds, rows_scored"
    " FROM scorebeat.batches WHERE device_seconds IS NOT NULL AND run_id IN"
    " (SELECT id FROM scorebeat.runs WHERE state IN ('planning', 'running')"
    " UNION ALL SELECT id FROM scorebeat.runs WHERE finished_at IS NOT NULL AND noted_at IS NULL)) AS one"
    " GROUP BY run_id, device) AS live JOIN scorebeat.runs r ON r.id = live.run_id"
)
_USAGE = (
    "SELECT run_id, outcome, device, job, day, queue, attempts, device_seconds, cpu_seconds, rows"
    f" FROM scorebeat.run_usage UNION ALL {_LIVE}"
)
_BY_DAY = (
    "SELECT job, day, queue, device, outcome, sum(attempts)::bigint AS attempts, sum(rows)::bigint AS rows,"
    " sum(device_seconds) AS device_seconds, sum(cpu_seconds) AS cpu_seconds,"
    # as Used.billed_seconds, and each run by itself: the cost of a month is the sum of its runs
    f" sum(CASE device WHEN '{CPU}' THEN greatest(device_seconds, cpu_seconds) ELSE device_seconds END) AS billed"
    f" FROM ({_USAGE}) u"
    " WHERE (CAST(:job AS text) IS NULL OR job = :job) AND (CAST(:run AS bigint) IS NULL OR run_id = :run)"
    " AND (CAST(:month AS date) IS NULL OR date_trunc('month', day)::date = CAST(:month AS date))"
    " GROUP BY job, day, queue, device, outcome HAVING sum(attempts) > 0 OR sum(device_seconds) > 0"
    " OR sum(cpu_seconds) > 0"  # ordered here: PostgreSQL would sort all rows for it, instead of the few groups
)
_MONTH = f"date_trunc('month', {DAY})::date"
_JOB = "coalesce((SELECT min(u.job) FROM scorebeat.run_usage u WHERE u.run_id = r.id), r.job)"
"""SQL: the job of run r, or what `usage.set_apart` calls it."""
_RUNS = (
    f"SELECT {_JOB} AS job, {_MONTH} AS month, count(*) AS runs, count(*) FILTER (WHERE s.attempts > 0 AND NOT EXISTS"
    f" (SELECT FROM scorebeat.run_usage u WHERE u.run_id = r.id AND u.outcome <> '{AttemptEnd.PLANNED}'))"
    " AS unmeasured FROM scorebeat.runs r LEFT JOIN scorebeat.run_sums s ON s.run_id = r.id AND r.noted_at IS NOT NULL"
    f" WHERE (CAST(:job AS text) IS NULL OR {_JOB} = :job)"
    f" AND (CAST(:month AS date) IS NULL OR {_MONTH} = CAST(:month AS date)) GROUP BY 1, 2 ORDER BY 1, 2"
)
_BUSY = (
    "SELECT s.month, u.device, sum(u.device_seconds * s.share) AS seconds"
    f" FROM ({_USAGE}) u JOIN scorebeat.runs r ON r.id = u.run_id"
    " CROSS JOIN LATERAL (SELECT r.created_at AT TIME ZONE 'UTC' AS began,"
    " greatest(r.created_at, coalesce(r.finished_at, clock_timestamp())) AT TIME ZONE 'UTC' AS ended) t"
    # a run over the end of a month was busy in both, as its workers were alive in both
    " CROSS JOIN LATERAL (SELECT m::date AS month, coalesce(extract(epoch FROM least(t.ended, m + interval '1 month')"
    " - greatest(t.began, m)) / nullif(extract(epoch FROM t.ended - t.began), 0), 1) AS share"
    " FROM generate_series(date_trunc('month', t.began), t.ended, interval '1 month') AS m) s"
    f" WHERE u.outcome <> '{AttemptEnd.PLANNED}' GROUP BY 1, 2"
)


def by_day(
    connection: Connection, *, job: str | None = None, run: int | None = None, month: date | None = None
) -> list[Usage]:
    """What was used, by the day on which each run began, in UTC. `month` is the first day of one."""
    rows = connection.execute(text(_BY_DAY), {"job": job, "run": run, "month": month})
    days = []
    for row in sorted(rows, key=tuple):
        times = float(row.device_seconds), float(row.cpu_seconds), float(row.billed)
        used = Used(row.queue, row.device, row.day, *times)
        days.append(Usage(row.job, AttemptEnd(row.outcome), row.attempts, row.rows, used))
    return days


def runs(connection: Connection, *, job: str | None = None, month: date | None = None) -> list[RunCount]:
    """Runs by job and month."""
    rows = connection.execute(text(_RUNS), {"job": job, "month": month})
    return [RunCount(row.job, row.month, row.runs, row.unmeasured) for row in rows]


def worker_time(connection: Connection, *, month: date | None = None) -> list[WorkerTime]:
    """Time of workers by month and device. A run over the end of a month counts in both, by its share of time."""
    busy = {(row.month, row.device): float(row.seconds) for row in connection.execute(text(_BUSY))}
    alive: dict[tuple[date, str], list[Used]] = {}
    found = text(
        "SELECT month, queue, device, device_seconds FROM scorebeat.worker_time"
        " WHERE CAST(:month AS date) IS NULL OR month = CAST(:month AS date) ORDER BY month, device, queue"
    )
    for row in connection.execute(found, {"month": month}):
        used = Used(row.queue, row.device, row.month, row.device_seconds)
        alive.setdefault((row.month, row.device), []).append(used)
    return [WorkerTime(*at, tuple(parts), busy.get(at, 0.0)) for at, parts in alive.items()]


def alive_seconds(connection: Connection) -> dict[tuple[str, str], float]:
    """That workers were alive, over all months, by queue and device."""
    rows = connection.execute(
        text(
            "SELECT queue, device, sum(device_seconds) AS seconds FROM scorebeat.worker_time"
            " GROUP BY queue, device ORDER BY queue, device"
        )
    )
    return {(row.queue, row.device): float(row.seconds) for row in rows}
