"""Snapshots of runs: made by the plan, cut into batches, and dropped when no batch or requeue needs them."""

from contextlib import suppress

from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import NoDisk, ScorebeatError, one_line
from scorebeat.core.events import emit
from scorebeat.core.table_names import snapshot_table
from scorebeat.db.closing import old_snapshots
from scorebeat.db.connect import database_errors, locks
from scorebeat.db.ledger import batches, plan_lease, runs
from scorebeat.db.ledger.batches import NewBatch
from scorebeat.db.ledger.runs import Run
from scorebeat.db.source import source
from scorebeat.db.source.selection import planning_cursor, snapshot
from scorebeat.producer.context import Producer
from scorebeat.producer.dispatch import dispatch
from scorebeat.producer.planning import planned_rows

AT_ONCE = 1_000
"""Batches that one statement stores."""


def plan(p: Producer, run: Run, attempt: int) -> int:
    """Compute the query once, store its pending rows as the snapshot of the run, and cut it into batches.

    This attempt stores the rows under a name of its own. One transaction that holds the lease makes them the run's and
    stores all batches, so a planner that dies or comes late changes nothing. Returns the number of batches. Raises
    PlanLost, NoDisk, QueryError, NotPermitted, DBAPIError; `drop_unneeded` drops what is left then.
    """
    try:
        rows, empty = _store(p, run, attempt)
    except DBAPIError as error:
        if not database_errors.is_disk_full(error):
            raise
        raise _no_disk(p, run, error) from None
    with p.engine.begin() as connection:
        plan_lease.require(connection, run.id, attempt, p.settings.claim_ttl)
        plan_lease.note_empty(connection, run.id, attempt, empty)
        snapshot.adopt(connection, run.id, attempt)
        runs.note_snapshot(connection, run.id, rows)
        size, attempts = run.job.batch_rows, run.attempts(p.settings.max_attempts)
        stored = snapshot.source_of(connection, run.job, run.id)
        new: list[NewBatch] = []
        made = 0
        for first in range(1, rows + 1, size):  # by row numbers, in key order
            last = min(first + size - 1, rows)
            made += 1
            new.append(NewBatch(made, last - first + 1, snapshot.span(connection, stored, first, last)))
            if len(new) == AT_ONCE or last == rows:
                batches.add(connection, run.id, run.job.queue, attempts, new)
                new = []
        plan_lease.finish(connection, run.id, attempt)
    emit("snapshot.made", run=run.id, job=run.job.name, rows=rows)
    dispatch(p, run.job.queue)
    return made


def _store(p: Producer, run: Run, attempt: int) -> tuple[int, bool]:
    """The number of rows, and whether the prediction set is empty."""
    with snapshot.writing(p.engine) as connection:
        locks.wait_at_most(connection, locks.IN_A_PLAN)
        fitted = planned_rows.fit(connection, run)
        rows, empty = planned_rows.pending_rows(connection, run, fitted)
        stored = snapshot.make(
            connection,
            rows,
            fitted.binding.columns,
            anti_join=not empty,
            limit=run.selection.limit,
            to=snapshot_table(run.id, attempt),
        )
    return stored, empty


def _no_disk(p: Producer, run: Run, error: DBAPIError) -> NoDisk:
    """The error with the size that the planner of PostgreSQL expects, if it expects one."""
    size = ""
    with suppress(DBAPIError, ScorebeatError), planning_cursor.reading(p.engine) as reader:
        expected = source.estimated_bytes(reader, planned_rows.fit(reader, run).source)
        size = f", about {expected / 2**20:,.1f} MiB by PostgreSQL's estimate"
    return NoDisk(
        f"jobs.{run.job.name}: there is no disk for the rows of the query, which snapshot = true stores{size}: "
        f"{one_line(database_errors.message(error))}. Nothing of it was left behind. Free some space or let the query "
        "return less"
    )


def drop_unneeded(p: Producer) -> int:
    """Drop snapshots that no batch and no requeue needs; returns how many. One that is being read waits."""
    with p.engine.connect() as connection:
        found = old_snapshots.unneeded(connection)
    dropped = []
    for table in found:
        with p.engine.begin() as connection:
            dropped += [table] if old_snapshots.drop(connection, table) else []
    if dropped:
        emit("snapshots.dropped", tables=dropped)
    return len(dropped)
