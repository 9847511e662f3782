"""What runs cost, by job and month, and what of it was waste; priced by the ledger's prices."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date

from sqlalchemy import Connection

from scorebeat.core.prices.price_list import PriceList, bill
from scorebeat.core.states import AttemptEnd
from scorebeat.db.ledger import jobs
from scorebeat.db.records import price_list
from scorebeat.db.reports import usage
from scorebeat.db.reports.usage import Usage, WorkerTime

MILLION = 1_000_000
REASONS = {
    AttemptEnd.LOST: "attempts whose process or worker died, or was cut off",
    AttemptEnd.FAILED: "attempts that ended with an error",
    AttemptEnd.WAITED: "attempts that met a lock, or a worker that could not load the model",
    AttemptEnd.RELEASED: "attempts of workers that were stopped, or whose batch was requeued",
    AttemptEnd.CANCELLED: "attempts of runs that were closed meanwhile",
    AttemptEnd.REPEATED: "rows scored twice: their run was begun again",
    AttemptEnd.DISCARDED: "rows of runs that failed as a whole, of which nothing is kept",
}
"""The kinds of waste, in words."""
NO_PRICES = (
    "there are no prices yet, so only seconds are shown. Write prices.toml and store it with `scorebeat prices "
    "--apply`: docs/how-to/what-runs-cost.md"
)


@dataclass(frozen=True)
class Waste:
    """Time of attempts that ended alike, and brought nothing."""

    kind: AttemptEnd
    attempts: int
    rows: int
    """Rows that they left to do, or that were scored and deleted."""
    device_seconds: float
    cpu_seconds: float
    cost: float | None

    @property
    def reason(self) -> str:
        return REASONS[self.kind]


@dataclass(frozen=True)
class Cost:
    """What a run cost, or all runs of a job that began in a month."""

    rows: int
    """Rows that were scored and kept."""
    device_seconds: float
    """That attempts and plans had a core, or a GPU."""
    gpu_seconds: float
    """Of them: a GPU."""
    cpu_seconds: float
    """CPU time of their processes."""
    planning_seconds: float
    """Of `device_seconds`: for planning."""
    cost: float | None
    """None without prices."""
    currency: str | None
    waste: tuple[Waste, ...]
    unpriced: tuple[str, ...] = field(default=())
    """Devices and queues without a price."""

    @property
    def wasted_seconds(self) -> float:
        return sum(one.device_seconds for one in self.waste)

    @property
    def wasted_cost(self) -> float | None:
        return None if self.cost is None else sum(one.cost or 0.0 for one in self.waste)

    @property
    def a_million_rows(self) -> float | None:
        """The cost of a million rows; None without prices or rows."""
        return None if self.cost is None or not self.rows else self.cost / self.rows * MILLION


@dataclass(frozen=True)
class JobMonth:
    """A job in the month in which its runs began, in UTC."""

    job: str
    month: date
    runs: int
    unmeasured: int
    """Runs of a version that measured no time: their seconds are missing."""
    cost: Cost


@dataclass(frozen=True)
class Idle:
    """Time in a month that workers of one device were alive without a batch."""

    month: date
    device: str
    alive_seconds: float
    idle_seconds: float | None
    """None: it is not known, because workers of an older version were alive too."""
    cost: float | None


@dataclass(frozen=True)
class Report:
    """What jobs cost by month, the newest first."""

    months: tuple[JobMonth, ...]
    idle: tuple[Idle, ...]
    """Of all jobs: a worker does not wait for one of them."""
    prices: PriceList


def report(connection: Connection, job: str | None = None, month: date | None = None) -> Report:
    """The costs of one job or of all, of one month or of all. Raises UnknownName."""
    if job is not None:
        jobs.require_known(connection, job)
    prices = price_list.read(connection)
    found: dict[tuple[str, date], list[Usage]] = {}
    for one in usage.by_day(connection, job=job, month=month):
        found.setdefault((one.job, one.used.day.replace(day=1)), []).append(one)
    months = [
        JobMonth(
            counted.job,
            counted.month,
            counted.runs,
            counted.unmeasured,
            cost_of(found.get((counted.job, counted.month), []), prices),
        )
        for counted in usage.runs(connection, job=job, month=month)
    ]
    months.sort(key=lambda one: (-one.month.toordinal(), one.job))
    idle = [_idle(one, prices) for one in usage.worker_time(connection, month=month)] if job is None else []
    return Report(tuple(months), tuple(sorted(idle, key=lambda one: (-one.month.toordinal(), one.device))), prices)


def of_run(connection: Connection, run: int) -> Cost:
    """What a run has cost so far."""
    return cost_of(usage.by_day(connection, run=run), price_list.read(connection))


def by_job(connection: Connection) -> dict[str, Cost]:
    """What all runs of each job of the jobs files cost."""
    prices, used = price_list.read(connection), usage.by_day(connection)
    found: dict[str, list[Usage]] = {row.job.name: [] for row in jobs.listing(connection)}
    for one in used:
        if one.job in found:
            found[one.job].append(one)
    return {name: cost_of(its, prices) for name, its in found.items()}


def cost_of(used: Sequence[Usage], prices: PriceList) -> Cost:
    """The sums of these, priced."""
    whole = bill(prices, (one.used for one in used))
    kept = [one for one in used if one.end == AttemptEnd.COMMITTED]
    ends = {one.end for one in used}
    return Cost(
        rows=sum(one.rows for one in kept),
        device_seconds=_seconds(used),
        gpu_seconds=_seconds(one for one in used if one.used.is_gpu),
        cpu_seconds=sum(one.used.cpu_seconds for one in used),
        planning_seconds=_seconds(one for one in used if one.end == AttemptEnd.PLANNED),
        cost=whole.cost,
        currency=prices.currency or None,
        waste=tuple(_waste(kind, [one for one in used if one.end == kind], prices) for kind in REASONS if kind in ends),
        unpriced=tuple(sorted({f"{one.device} on queue {one.queue}" for one in whole.unpriced}))
        if prices.prices
        else (),
    )


def _waste(kind: AttemptEnd, used: Sequence[Usage], prices: PriceList) -> Waste:
    return Waste(
        kind=kind,
        attempts=sum(one.attempts for one in used),
        rows=sum(one.rows for one in used),
        device_seconds=_seconds(used),
        cpu_seconds=sum(one.used.cpu_seconds for one in used),
        cost=bill(prices, (one.used for one in used)).cost,
    )


def _seconds(used: Iterable[Usage]) -> float:
    return sum(one.used.device_seconds for one in used)


def _idle(found: WorkerTime, prices: PriceList) -> Idle:
    """Its cost is its share of what the workers' whole time cost: it is not known which queue they waited at."""
    whole, idle = bill(prices, found.alive).cost, found.idle_seconds
    is_known = whole is not None and idle is not None and found.alive_seconds > 0
    cost = whole * idle / found.alive_seconds if is_known else None  # type: ignore[operator]  # known by the line above
    return Idle(found.month, found.device, found.alive_seconds, idle, cost)
