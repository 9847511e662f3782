"""From where in its cursor a plan compares keys, and the watermark that it leaves for the next one.

`db.source.selection.open_transactions` says why a watermark is not the largest value that was seen.
"""

from dataclasses import dataclass

from sqlalchemy import Connection

from scorebeat.core.jobs.job import DAILY, Job
from scorebeat.db.connect import database_clock, user_sql
from scorebeat.db.ledger import jobs, watermarks
from scorebeat.db.ledger.runs import Run
from scorebeat.db.ledger.watermarks import Planned, Watermark
from scorebeat.db.source import relations, source
from scorebeat.db.source.cursor import Cursor
from scorebeat.db.source.relations import Relations
from scorebeat.db.source.selection import open_transactions
from scorebeat.db.source.selection.open_transactions import OpenTransactions
from scorebeat.db.source.selection.pending import PendingRows
from scorebeat.db.source.source import Source
from scorebeat.db.source.values import parameter_values
from scorebeat.producer.context import Producer


@dataclass(frozen=True)
class Beginning:
    """Where a plan begins."""

    cursor: Cursor
    of: str
    """As in `Planned`."""
    watermark: Watermark | None
    """The newest that counts."""
    is_sweep: bool = False
    """It compares every key although there is a watermark, because that was last done long ago."""

    @property
    def value(self) -> int | None:
        """The value of the cursor that the plan begins at; None: it compares every key."""
        return self.watermark.value if self.watermark is not None and not self.is_sweep else None

    @property
    def since(self) -> str | None:
        """SQL condition for the rows that the plan compares; None: all."""
        return self.cursor.since(self.value) if self.value is not None else None


def read_open(p: Producer, job: Job) -> OpenTransactions | None:
    """What is open now, for a job that may have a cursor. Call it before the snapshot of the plan is taken."""
    if job.changed_at is None and job.cursor is None:
        return None
    with p.engine.connect() as connection:
        return open_transactions.read(connection)


def begin(connection: Connection, job: Job, found: Source, set_id: int, *, empty: bool) -> Beginning | None:
    """Where a plan of all rows of the job begins; None if it has no cursor, or none that can be trusted.

    `empty`: nothing of the set is stored.
    """
    if found.cursor is None:
        return None
    reads = relations.read_by(connection, found)
    if _why_untrusted(connection, job, reads) is not None:
        return None
    changed = jobs.applied_at(connection, job.name)
    changes = found.changes
    of = watermarks.made_of(
        found.cursor,
        [
            found.query,
            [[key.name, key.type] for key in found.keys],
            [changes.name, changes.type] if changes is not None else None,
            changed.isoformat() if changed is not None else None,
            found.cursor.step_back(job.lookback),  # a run of before `apply` did not step back as the job does now
            reads.stored_in,
        ],
    )
    newest = None if empty else watermarks.latest(connection, job.name, set_id, of)
    if newest is None:
        return Beginning(found.cursor, of, None)
    now = database_clock.now(connection)
    is_old = not newest.swept_at <= now < newest.swept_at + (job.sweep or DAILY)
    is_ahead = found.cursor.is_time and newest.value > found.cursor.value_of(now)  # the clock was set back
    return Beginning(found.cursor, of, newest, is_sweep=is_old or is_ahead)


def why_untrusted(connection: Connection, job: Job, found: Source) -> str | None:
    """Why no plan of the job can begin at a watermark, though its query has a cursor; None if one can."""
    return _why_untrusted(connection, job, relations.read_by(connection, found))


def _why_untrusted(connection: Connection, job: Job, reads: Relations) -> str | None:
    if parameter_values.differ_by_run(connection, job):
        return "the query has other rows in each run, because it has :due_at or :run_id"
    if job.lookback is None and reads.late is not None:
        return f"the query reads {reads.late}: set lookback"
    return None


def leave(reader: Connection, run: Run, begun: Beginning, opened: OpenTransactions, rows: PendingRows) -> Planned:
    """What the plan of these rows leaves with its run, in the snapshot of the plan."""
    highest = None if begun.cursor.is_time else source.highest(reader, rows.source, begun.since)
    missed = None
    if begun.is_sweep and begun.watermark is not None:
        missed = user_sql.rows(reader, rows.count_beyond(begun.cursor.since(begun.watermark.value)))[0][0]
    return Planned(
        of=begun.of,
        value=_next(reader, run, begun, opened),
        compared_from=begun.value,
        swept_at=begun.watermark.swept_at if begun.watermark is not None and begun.value is not None else None,
        highest=highest,
        missed=missed,
    )


def _next(reader: Connection, run: Run, begun: Beginning, opened: OpenTransactions) -> int | None:
    """The watermark for the next plan. Where none can be known, that of before still holds."""
    before = begun.watermark.value if begun.watermark is not None else None
    lookback, time = run.job.lookback, opened.begun_by
    if opened.prepared or (opened.why_unknown is not None and lookback is None):
        return before
    if begun.cursor.is_time:
        return begun.cursor.value_of(time) - begun.cursor.step_back(lookback)
    # a number that was seen is drawn, and so are all below it; those of transactions that are over are visible
    known = watermarks.highest_before(reader, run.job.name, run.prediction_set_id, begun.of, time)
    return before if known is None else known - begun.cursor.step_back(lookback)
