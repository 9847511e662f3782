"""Planning: cuts the pending rows of a run into batches, and sends the first ones while it cuts the rest."""

import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import PlanLost, ScorebeatError
from scorebeat.core.events import emit
from scorebeat.core.states import AttemptEnd
from scorebeat.db.closing import close_run, closed_runs
from scorebeat.db.connect import database_errors, locks
from scorebeat.db.connect.sql import KeyRange
from scorebeat.db.ledger import batches, plan_lease, runs, watermarks
from scorebeat.db.ledger.batches import NewBatch
from scorebeat.db.ledger.runs import EVERYTHING, Run
from scorebeat.db.ledger.watermarks import Planned
from scorebeat.db.records import counters, usage
from scorebeat.db.source import source
from scorebeat.db.source.selection import key_range, planning_cursor
from scorebeat.db.source.selection.open_transactions import OpenTransactions
from scorebeat.db.source.selection.pending import PendingRows
from scorebeat.db.source.selection.planning_cursor import KeyCursor
from scorebeat.producer.context import Producer
from scorebeat.producer.control.upkeep import snapshots
from scorebeat.producer.control.upkeep.settle import settle
from scorebeat.producer.dispatch import dispatch
from scorebeat.producer.planning import begin_at, planned_rows
from scorebeat.producer.versions.prediction_tables import Fit

LOCK_PAUSE = timedelta(seconds=3)
"""The pause after a plan met a lock on a table of its query."""
GROUP_ROWS = 20
GROUP_SECONDS = 0.2
"""Batches are stored in groups: at most this many, or those of this many seconds."""


@dataclass(frozen=True)
class _Plan:
    run: Run
    pending: PendingRows
    anti_join: bool
    leaves: Planned | None = None
    """The watermark for the next plan."""


@dataclass(frozen=True)
class _Times:
    """When an attempt to plan began, by both clocks."""

    began: float = field(default_factory=time.monotonic)
    cpu_before: float = field(default_factory=time.process_time)

    def add(self, connection: Connection, run_id: int) -> None:
        """Add what it took to the run; a planner that dies or loses the database adds nothing."""
        seconds, cpu = time.monotonic() - self.began, time.process_time() - self.cpu_before
        usage.add(connection, run_id, AttemptEnd.PLANNED, seconds, cpu)


def plan(p: Producer, run_id: int) -> int | None:
    """Plan a run; returns the number of its batches, or None if it was not planned here. Safe to call again."""
    with p.engine.begin() as connection:
        attempt = plan_lease.claim(connection, run_id, p.name, p.settings.claim_ttl)
        if attempt is None:
            return None
        run = runs.get(connection, run_id)
        closed_runs.free(connection, run.prediction_set_id)
    times = _Times()
    try:
        made, leaves = _make_batches(p, run, attempt)
    except PlanLost as error:
        emit("plan.lost", run=run_id, attempt=attempt, reason=str(error))
        return None
    except (ScorebeatError, DBAPIError) as error:
        if database_errors.is_lock(error):
            _postpone(p, run, attempt)
        elif database_errors.is_transient(error):
            _put_back(
                p,
                run_id,
                attempt,
                database_errors.message_with_advice(error),
                counts=not database_errors.is_read_only(error),
            )
            raise  # rescue sends the plan again, or goes on with the batches that it made
        else:
            query = f"jobs.{run.job.name}.query fails in PostgreSQL: " if isinstance(error, DBAPIError) else ""
            _fail(p, run_id, attempt, query + database_errors.message_with_advice(error))
        with suppress(DBAPIError), p.engine.begin() as connection:
            times.add(connection, run_id)
        return None
    with p.engine.begin() as connection:
        times.add(connection, run_id)
        if plan_lease.finish(connection, run_id, attempt) and leaves is not None:
            watermarks.note(connection, run_id, leaves)
            counters.add(connection, counters.ROWS_MISSED, run_id, leaves.missed or 0)
    if leaves is not None and leaves.missed:  # its values were set to earlier ones than could be seen
        emit("sweep.found", logging.WARNING, run=run_id, job=run.job.name, rows=leaves.missed, column=leaves.column)
    emit("run.planned", run=run_id, job=run.job.name, batches=made)
    settle(p, run_id)
    return made


def _make_batches(p: Producer, run: Run, attempt: int) -> tuple[int, Planned | None]:
    if run.job.snapshot:
        return snapshots.plan(p, run, attempt), None
    opened = begin_at.read_open(p, run.job)  # before the snapshot that `reading` takes
    with planning_cursor.reading(p.engine) as reader:
        locks.wait_at_most(reader, locks.IN_A_PLAN)  # this process plans other jobs after this one
        planned = _begin(p, reader, run, attempt, opened)
        made = 0
        for group in _groups(_cut(reader, planned)):
            _store(p, run, attempt, group)
            dispatch(p, run.job.queue)
            made += len(group)
    return made, planned.leaves


def _begin(p: Producer, reader: Connection, run: Run, attempt: int, opened: OpenTransactions | None) -> _Plan:
    """Check the query again, with the tables as they are now, and record whether the prediction set is empty."""
    fitted = planned_rows.fit(reader, run)
    rows, empty = planned_rows.pending_rows(reader, run, fitted)
    with p.engine.begin() as connection:
        plan_lease.note_empty(connection, run.id, attempt, empty)
    begun = None
    if opened is not None and run.selection == EVERYTHING:
        begun = begin_at.begin(reader, run.job, fitted.source, run.prediction_set_id, empty=empty)
    since = begun.since if begun is not None else None
    source.require_unique(reader, fitted.source, since)
    if since is None and run.selection.keys is None:
        _warn_of_whole(reader, run, fitted)
    rows = replace(rows, since=since)
    leaves = begin_at.leave(reader, run, begun, opened, rows) if begun is not None and opened is not None else None
    return _Plan(run, rows, anti_join=not empty, leaves=leaves)


def _warn_of_whole(reader: Connection, run: Run, fitted: Fit) -> None:
    first = planning_cursor.first_key(reader, fitted.source)
    whole = first and key_range.why_whole(reader, fitted.source, run.job, first)
    if whole:  # its table grew, or lost an index: a slow run is better than none
        emit("plan.computes_all", logging.WARNING, run=run.id, job=run.job.name, reason=whole)


def _cut(reader: Connection, planned: _Plan) -> Iterator[NewBatch]:
    """Batches in key order. Keys are read only if a list of them is, or may be, needed."""
    run = planned.run
    cursor = KeyCursor(reader, planned.pending, anti_join=planned.anti_join)
    left = run.selection.limit
    by_hand = run.selection.keys is not None
    listing = by_hand or planned.anti_join
    number = 0
    while left is None or left > 0:
        size = run.job.batch_rows if left is None else min(run.job.batch_rows, left)
        number += 1
        cut = _listed(cursor, number, size) if listing else _ranged(cursor, number, size)
        if cut is None:
            return
        if not by_hand and planned.anti_join:
            listing = planning_cursor.is_sparse(reader, planned.pending.source, cut.span, cut.rows)
        keeps_list = by_hand or listing
        yield cut if keeps_list else NewBatch(cut.number, cut.rows, cut.span)
        left = None if left is None else left - cut.rows


def _listed(cursor: KeyCursor, number: int, size: int) -> NewBatch | None:
    keys = cursor.read(size)
    return NewBatch(number, len(keys), KeyRange(keys[0], keys[-1]), tuple(keys)) if keys else None


def _ranged(cursor: KeyCursor, number: int, size: int) -> NewBatch | None:
    found = cursor.skip(size)
    return NewBatch(number, found[1], found[0]) if found is not None else None


def _groups(cut: Iterator[NewBatch]) -> Iterator[list[NewBatch]]:
    """Groups that double: the first batch alone, so that a worker starts at once, and soon one for each other worker.

    A group ends at a number of batches and at a time.
    """
    group: list[NewBatch] = []
    made, began = 0, 0.0
    for batch in cut:
        group.append(batch)
        if len(group) >= min(max(made, 1), GROUP_ROWS) or time.monotonic() - began >= GROUP_SECONDS:
            yield group
            made += len(group)
            group, began = [], time.monotonic()
    if group:
        yield group


def _store(p: Producer, run: Run, attempt: int, group: list[NewBatch]) -> None:
    with p.engine.begin() as connection:
        plan_lease.require(connection, run.id, attempt, p.settings.claim_ttl)
        attempts = run.attempts(p.settings.max_attempts)
        batches.add(connection, run.id, run.job.queue, attempts, group)


def _postpone(p: Producer, run: Run, attempt: int) -> None:
    """Free this process for another plan; this plan is retried until the lock is released."""
    with p.engine.begin() as connection:
        reason = locks.waits_for(connection, run.job.query)
        plan_lease.postpone(connection, run.id, attempt, reason, LOCK_PAUSE)
    emit("plan.postponed", logging.WARNING, run=run.id, job=run.job.name, reason=reason)


def _put_back(p: Producer, run_id: int, attempt: int, reason: str, *, counts: bool) -> None:
    """Record the error with the run, and let another attempt begin soon. If the database is away, the lease expires."""
    emit("plan.failed", logging.WARNING, run=run_id, attempt=attempt, reason=reason)
    move = plan_lease.put_back if counts else plan_lease.postpone
    with suppress(DBAPIError), p.engine.begin() as connection:
        move(connection, run_id, attempt, reason, p.settings.backoff)


def _fail(p: Producer, run_id: int, attempt: int, reason: str) -> None:
    """Fail the run, unless this attempt lost its lease: then another planner decides."""
    with p.engine.begin() as connection:
        if not plan_lease.extend(connection, run_id, attempt, p.settings.claim_ttl):
            return
        recorded = close_run.fail(connection, run_id, reason)
    emit("run.failed", run=run_id, reason=recorded)
