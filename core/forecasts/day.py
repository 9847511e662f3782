"""The coming day of a queue: which runs of its schedules cannot end in time, by what earlier runs took."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

DAY = timedelta(days=1)


@dataclass(frozen=True)
class DueTime:
    """A run that a schedule will begin."""

    at: datetime
    needed_at: datetime | None
    """When its results are promised; None if nothing is."""


@dataclass(frozen=True)
class JobOfQueue:
    """A job with a schedule, and what its runs took."""

    name: str
    due: tuple[DueTime, ...]
    """Of the coming day, in order."""
    work: float
    """Seconds of processes a run."""
    beside: float
    """Seconds of a run before its first claim and after its last commit."""


@dataclass(frozen=True)
class Miss:
    """A run that would end after its results are needed."""

    job: str
    due_at: datetime
    needed_at: datetime
    ends_at: datetime
    behind: tuple[str, ...]
    """The jobs whose runs the queue scores before it; empty if it would be late alone too."""


@dataclass(frozen=True)
class Day:
    """The coming day of a queue."""

    share_busy: float
    """Work of the schedules, as a share of what the processes can do in the time."""
    misses: tuple[Miss, ...]
    """The first of each job."""


def simulate(jobs: Sequence[JobOfQueue], processes: float, now: datetime) -> Day:
    """Score the runs one after another, as they become due, with all processes: a queue is first in, first out.

    A due time at which the job's run before is still open has no run.
    """
    seconds = processes * DAY.total_seconds()
    share_busy = sum(one.work * len(one.due) for one in jobs) / seconds
    free_at, misses = now, dict[str, Miss]()
    ends: dict[str, datetime] = {}
    line: list[tuple[datetime, str]] = []  # ends and jobs of the runs before
    runs = [(due, job) for job in jobs for due in job.due]
    for due, job in sorted(runs, key=lambda run: run[0].at):
        if ends.get(job.name, now) > due.at:
            continue
        line = [(end, name) for end, name in line if end > due.at]
        took = timedelta(seconds=job.work / processes)
        beside = timedelta(seconds=job.beside)
        free_at = max(free_at, due.at) + took
        end = ends[job.name] = free_at + beside
        if due.needed_at is not None and end > due.needed_at and job.name not in misses:
            is_alone = due.at + took + beside > due.needed_at
            behind = () if is_alone else tuple(dict.fromkeys(name for _, name in line))
            misses[job.name] = Miss(job.name, due.at, due.needed_at, end, behind)
        line.append((free_at, job.name))
    return Day(share_busy, tuple(misses.values()))
