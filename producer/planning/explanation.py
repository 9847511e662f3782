"""How a run of a job finds its rows, what that costs, and what would make it cheaper: for a person."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection

from scorebeat.core.jobs.job import DAILY, Job
from scorebeat.core.text.durations import format_duration
from scorebeat.db.source import cursor
from scorebeat.db.source.selection import key_range
from scorebeat.db.source.selection.open_transactions import OpenTransactions
from scorebeat.db.source.source import Source
from scorebeat.producer.planning import begin_at
from scorebeat.producer.planning.begin_at import Beginning

LONG_OPEN = timedelta(minutes=10)
"""How long a transaction is open until it is reported."""
MANY_WITHOUT_VALUE = 0.01
"""Share of rows without a value in the cursor from which on it is reported: each tick compares all of them."""


@dataclass(frozen=True)
class Explanation:
    """How a run of the job finds its rows."""

    rows: str
    """A sentence."""
    grows: bool
    """It takes longer when there are more rows, though as many changed."""
    advice: tuple[str, ...]
    """What to add or change; empty if nothing would help."""

    def cost(self, took: timedelta) -> str:
        """What it takes, as it `took` just now, and with ten times the rows."""
        now = f"{took.total_seconds():.2g} s"
        if not self.grows:
            return f"{now} now, and as long with ten times the rows: it grows with what changed"
        return f"{now} now, and about {10 * took.total_seconds():.2g} s with ten times the rows"


def explain(
    connection: Connection, job: Job, found: Source, begun: Beginning | None, opened: OpenTransactions | None
) -> Explanation:
    """How the next run finds its rows; `opened` is read before the connection took its snapshot."""
    index = key_range.cursor_index(connection, found, found.cursor) if found.cursor is not None else None
    is_by_index = begun is not None and begun.value is not None and index is not None
    return Explanation(_rows(job, begun, index), not is_by_index, tuple(_advice(connection, job, found, opened, index)))


def _rows(job: Job, begun: Beginning | None, index: str | None) -> str:
    if job.snapshot:
        return "each run computes the whole query once, into a table of its own, and compares every key then"
    if job.rescore == "every-run":
        return "each run takes every row of the query, in key order"
    if begun is None:
        return "each run compares every key of the query with the predictions"
    every = format_duration(job.sweep or DAILY)
    if begun.value is None:
        why = f"as one does each {every}" if begun.is_sweep else "because no run has left a watermark that counts"
        return f"the next run compares every key, {why}; others compare rows with a later {begun.cursor.name}"
    how = f"by the index {index}" if index is not None else "for which the whole query is read"
    since = begun.cursor.in_words(begun.value)
    return f"those with {begun.cursor.name} from {since} on, {how}; once each {every} every key is compared"


def _advice(
    connection: Connection, job: Job, found: Source, opened: OpenTransactions | None, index: str | None
) -> list[str]:
    """What would help the next runs."""
    if job.snapshot or job.rescore == "every-run":
        return []
    if found.cursor is None:
        if job.changed_at is not None:
            name = job.changed_at
            return [f'cursor = "{name}", if all {name} come from one sequence, so that each is larger than all before']
        return []
    parts = []
    untrusted = begin_at.why_untrusted(connection, job, found)
    if untrusted is not None:
        parts.append(untrusted)
    elif opened is not None and opened.why_unknown is not None and (opened.prepared or job.lookback is None):
        parts.append(opened.why_unknown)
    elif opened is not None and opened.now - opened.oldest > LONG_OPEN:
        parts.append(
            f"a transaction is open since {opened.oldest:%Y-%m-%d %H:%M:%S%z}, and each run begins there: end it"
        )
    unordered = cursor.why_out_of_order(connection, found.cursor)
    if unordered is not None and job.lookback is None:
        parts.append(unordered)
    if index is None:
        command = cursor.index_command(connection, found.cursor)
        parts.append(command or f"an index by which PostgreSQL finds rows by {found.cursor.name}: now it reads all")
    share = cursor.share_without_value(connection, found.cursor)
    if share > MANY_WITHOUT_VALUE:
        parts.append(
            f"about {share:.0%} of the rows have no {found.cursor.name}, and each run compares all of them: let the "
            f"query return another time there, as coalesce({found.cursor.name}, created_at) does"
        )
    return parts
