"""A job's due times without a run so far: the newest gets a run, those before it were missed."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from scorebeat.core.jobs.job import Job

PATIENCE = timedelta(seconds=3)
"""How long a due time waits for beat's message before the control tick opens its run. Due times that are closer
together get one run."""
COUNTED = 1_000
"""The largest count of missed due times."""


@dataclass(frozen=True)
class Missed:
    """Due times without a run, whose time is over."""

    first: datetime
    last: datetime
    count: int

    @property
    def in_words(self) -> str:
        if self.count == 1:
            return f"the due time {_text(self.last)}"
        many = f"{self.count:,}{' or more' * (self.count >= COUNTED)}"
        return f"{many} due times, from {_text(self.first)} to {_text(self.last)},"


@dataclass(frozen=True)
class Due:
    """What is due now by a job's schedule."""

    newest: datetime
    is_in_time: bool
    """Whether the newest gets a run now; False if its deadline has passed."""
    missed: Missed | None


def find(job: Job, last_due_at: datetime, until: datetime, now: datetime) -> Due | None:
    """The due times after `last_due_at` and not after `until`; None if there are none."""
    if job.due is None:
        return None
    newest = job.due.latest_due(until)
    if newest <= last_due_at:
        return None
    is_in_time = job.deadline is None or newest + job.deadline > now
    before = job.due.between(last_due_at, min(newest, now - PATIENCE), COUNTED)
    over = before if is_in_time else [*before, newest]
    return Due(newest, is_in_time, Missed(over[0], over[-1], len(over)) if over else None)


def _text(at: datetime) -> str:
    return at.isoformat(" ", "seconds")
