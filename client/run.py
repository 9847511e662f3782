"""One run, as a program follows it."""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from scorebeat.client.own_errors import with_own_errors
from scorebeat.client.values import (
    count_of,
    require_flags,
    require_texts,
    require_texts_or_none,
    seconds_of,
    wrong_type,
)
from scorebeat.core.errors import RunNotSucceeded, RunStillOpen, UsageError
from scorebeat.core.states import RunState
from scorebeat.db.connect import database_clock
from scorebeat.db.ledger.evidence.profiles import RunDrift
from scorebeat.db.ledger.failures import failure_groups
from scorebeat.db.ledger.failures.failure_groups import FailureGroup
from scorebeat.db.reports import drift, results, status
from scorebeat.db.reports.forecasts import forecasts
from scorebeat.db.reports.pages import run_pages
from scorebeat.db.reports.status import RunLine
from scorebeat.producer.context import Producer, whoami
from scorebeat.producer.requests import release as decisions
from scorebeat.producer.requests import requeue as by_hand

LOOK_EVERY = 0.5
"""Seconds between two looks at a run, while `wait` waits for it."""
GROUPS = 1_000
"""Groups of failures in one read."""


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    state: RunState
    rows_planned: int
    """Grows while the run is planned."""
    rows_scored: int
    rows_failed: int
    """Quarantined. Rows of dead batches are neither scored nor failed; a requeue scores them."""
    rows_a_second: float
    """Of its last minute; 0 once it is final."""
    left: timedelta | None
    """Until its end, as it is forecast; None if it is over, or no end is forecast."""
    earliest: datetime | None = None
    """The bounds of the forecast."""
    latest: datetime | None = None
    no_forecast: str | None = None
    """Why no end of an open run is forecast."""


@with_own_errors
class Run:
    """A run of the ledger. Only its number is kept: each call reads the ledger anew."""

    def __init__(self, producer: Producer, number: int, *, is_new: bool = False) -> None:
        self._producer = producer
        self.id = number
        self.is_new = is_new
        """Whether the call that returned this run also made it; False if its run key had made it before."""

    def __repr__(self) -> str:
        return f"<run {self.id}>"

    def status(self) -> RunLine:
        """Its line in the list of runs. Raises UnknownName."""
        with results.reading(self._producer.engine) as connection:
            return status.get(connection, self.id)

    @property
    def progress(self) -> Progress:
        """How far it is now."""
        with results.reading(self._producer.engine) as connection:
            line = status.get(connection, self.id)
            pace = run_pages.pace(connection, line)
            found = forecasts.of_runs(connection, [line])[self.id]
            left = found.left(database_clock.now(connection))
        return Progress(
            line.state,
            line.rows_planned,
            line.rows_scored,
            line.rows_failed,
            pace,
            left,
            found.earliest,
            found.latest,
            None if line.is_final else found.unknown,
        )

    def wait(
        self, timeout: float | timedelta | None = None, *, check: bool = True, max_quarantined: int = 0
    ) -> RunLine:
        """Wait for its end, at most `timeout` seconds; None: as long as it takes.

        Raises RunNotSucceeded, with the reason and what to do, where it ended in another state than `succeeded`, unless
        `check` is False; RunStillOpen when the time is over: the run goes on. A `partial` run that left no more out
        than `max_quarantined` quarantined rows passes the check, too.
        """
        require_flags(check=check)
        max_quarantined = count_of("max_quarantined", max_quarantined, "a number of rows", least=0)
        seconds = seconds_of("timeout", timeout)
        deadline = None if seconds is None else time.monotonic() + seconds
        while not (line := self.status()).is_final:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                waits = f": {line.reason}" if line.reason else ""
                raise RunStillOpen(
                    f"run {self.id} of job {line.job} is {line.state} after {seconds:g} s, "
                    f"{line.rows_scored:,} of {line.rows_planned:,} rows scored{waits}. It goes on; wait() again"
                )
            time.sleep(LOOK_EVERY if left is None else min(LOOK_EVERY, left))
        only_quarantined = line.state is RunState.PARTIAL and line.reason is None
        passes = line.state is RunState.SUCCEEDED or (only_quarantined and line.rows_failed <= max_quarantined)
        if check and not passes:
            most = f", more than {max_quarantined:,}" if only_quarantined and max_quarantined else ""
            raise RunNotSucceeded(
                f"run {self.id} of job {line.job} is {line.state}, {line.rows_scored:,} rows scored, "
                f"{line.rows_failed:,} failed{most}: {line.reason or self._most_frequent_failure()}"
            )
        return line

    def _most_frequent_failure(self) -> str:
        """For a message: how to see what failed, and the first line of the most frequent error with an example."""
        found = self.failures()
        if not found:
            return "see failures()"
        error = found[0].error.partition("\n")[0][:300]
        return f"`scorebeat failures {self.id}` lists them, most by {error} ({found[0].example})"

    def failures(self) -> list[FailureGroup]:
        """What failed, grouped by error, the most frequent first."""
        found: list[FailureGroup] = []
        with results.reading(self._producer.engine) as connection:
            status.get(connection, self.id)
            while not found or len(found) % GROUPS == 0:
                after = found[-1].place if found else None
                more = failure_groups.page(connection, self.id, limit=GROUPS, after=after)
                found += more
                if not more:
                    break
        return found

    def requeue(self, *, group: FailureGroup | str | None = None, error: str | None = None) -> int:
        """Put dead batches and quarantined rows back: all, those of a group, or those whose error contains a text.

        Returns how many batches were put back; workers score them now. Safe to repeat. Raises UsageError if the run
        cannot go on, or only as a whole.
        """
        require_texts_or_none(error=error)
        if group is not None and not isinstance(group, FailureGroup | str):
            raise wrong_type("group", group, "an entry of failures(), or its id")
        if group is not None and error is not None:
            raise UsageError("requeue takes a group or a text of the error, not both")
        chosen = group.id if isinstance(group, FailureGroup) else group
        return by_hand.requeue(self._producer, self.id, whoami(), error=error, group=chosen)

    def cancel(self) -> bool:
        """Stop it: what it scored stays, the rest is pending for the next run. False if it had ended already."""
        return by_hand.cancel(self._producer, self.id, whoami())

    def drift(self) -> RunDrift:
        """How far its inputs and outputs are from the reference, by column; without a comparison, why not."""
        with results.reading(self._producer.engine) as connection:
            return drift.of_run(connection, self.id)

    def release(self, why: str = "") -> RunLine:
        """Show it to readers, although it did not pass the gate of its job. Recorded with your name and the reason.

        Raises UsageError if it is not held, or if readers see a newer run by now: then nothing was changed.
        """
        require_texts(why=why)
        decisions.release(self._producer, self.id, whoami(), why)
        return self.status()

    def discard(self, why: str = "") -> RunLine:
        """Drop what it scored while it is held; readers keep what they see. Raises as `release`."""
        require_texts(why=why)
        decisions.discard(self._producer, self.id, whoami(), why)
        return self.status()
