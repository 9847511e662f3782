"""What is known when an end is forecast: open runs, living workers, earlier runs. `db.reports.forecasts` reads it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

from scorebeat.core.forecasts.costs import Part, Range


@dataclass(frozen=True)
class InProgress:
    """A claimed batch."""

    rows: int
    """Those that are not done."""
    seconds: float
    """Since its claim."""
    worker: str


RESTARTS_WITHIN = 60.0
"""Seconds after which a worker that went away, and had a batch, is taken for gone."""


@dataclass(frozen=True)
class OpenRun:
    """An open run and its batches."""

    id: int
    job: str
    queue: str
    is_planning: bool
    age: float
    """Seconds since its request."""
    rank: int
    batch_rows: int = 1
    """The most that a batch may have."""
    rows_done: int = 0
    rows_open: int = 0
    """Rows of its pending and claimed batches that are not done."""
    batches_open: int = 0
    first_open: int = 0
    last_open: int = 0
    """The lowest and the highest id of its open batches, the order in which a queue sends them; 0 without any."""
    since_last_commit: float | None = None
    """Seconds; None without a committed batch."""
    parts: tuple[Part, ...] = ()
    """Its committed batches, the oldest first, each part several of them."""
    batches_done: int = 0
    claims: tuple[InProgress, ...] = ()
    busy: Mapping[str, float] = field(default_factory=dict)
    """By worker: how many of its processes had a batch of the run at a time, over the last minutes."""
    busy_since: float = 0.0
    """Seconds that these minutes are."""
    idle: Mapping[str, float] = field(default_factory=dict)
    """By worker of `busy`: seconds since it last had a batch of the run."""
    most_rows: int | None = None
    """It was requested for so many rows at most; None: for all that are pending."""
    is_filtered: bool = False
    """It was requested for some of the rows by a condition, and nobody knows for how many."""


@dataclass(frozen=True)
class Worker:
    """A living worker."""

    name: str
    queues: frozenset[str]
    processes: int
    age: float
    """Seconds since it started."""


@dataclass(frozen=True)
class PastRun:
    """An earlier run of a job on the same queue, in seconds."""

    rows: int
    busy: float
    """Of processes, over all its batches."""
    wait: float
    """From its request to the first claim: it was planned and waited."""
    planning: float
    """From its request to the end of its plan."""
    span: float
    """From the first claim to the last commit."""
    closing: float
    """From the last commit to its end."""
    processes: int
    """That had batches of it."""

    @property
    def share_busy(self) -> float:
        """Of the time of its processes."""
        return min(1.0, self.busy / (self.processes * self.span)) if self.span > 0 and self.processes else 1.0


@dataclass(frozen=True)
class History:
    """Earlier runs of a job on one queue that scored rows, the newest first."""

    runs: tuple[PastRun, ...] = ()

    @property
    def wait(self) -> float:
        return median(run.wait for run in self.runs) if self.runs else 0.0

    @property
    def planning(self) -> float:
        return median(run.planning for run in self.runs) if self.runs else 0.0

    @property
    def closing(self) -> float:
        return median(run.closing for run in self.runs) if self.runs else 0.0

    @property
    def share_busy(self) -> float:
        return median(run.share_busy for run in self.runs) if self.runs else 1.0

    @property
    def processes(self) -> int:
        return round(median(run.processes for run in self.runs)) if self.runs else 0


@dataclass(frozen=True)
class Evidence:
    """The ledger at one time."""

    now: datetime
    runs: Mapping[int, OpenRun]
    """All open runs: any of them may be ahead of another on a queue."""
    workers: tuple[Worker, ...]
    histories: Mapping[tuple[str, str], History]
    """By job and queue."""
    costs: dict[int, Range | None] = field(default_factory=dict, compare=False)
    """What rows of open runs cost, as far as it was computed: many runs may wait for the same ones."""

    def history(self, job: str, queue: str) -> History:
        return self.histories.get((job, queue), History())

    def may_come_back(self, queue: str) -> bool:
        """Whether a worker of the queue is away that had a batch shortly before: it may be restarted just now."""
        there = {worker.name for worker in self.workers}
        return any(
            seconds < RESTARTS_WITHIN and name not in there
            for run in self.runs.values()
            if run.queue == queue
            for name, seconds in run.idle.items()
        )

    def serving(self, queue: str) -> list[Worker]:
        return [worker for worker in self.workers if queue in worker.queues]
