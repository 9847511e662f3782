"""Prune: deletes what is old and no longer needed from the database, and counts it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import QueryError, ScorebeatError, one_line
from scorebeat.core.events import emit
from scorebeat.core.jobs.job import Job
from scorebeat.core.text.durations import format_duration
from scorebeat.db.closing import old_snapshots
from scorebeat.db.connect import database_clock
from scorebeat.db.connect.engine import reachable
from scorebeat.db.ledger import jobs
from scorebeat.db.predictions import history, orphans, set_drops
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.records import audit, retention
from scorebeat.db.source import source
from scorebeat.db.source.selection import planning_cursor
from scorebeat.db.source.values import parameter_values
from scorebeat.producer.context import Producer

GENERATIONS = "generations"
SNAPSHOTS = "snapshots"
PREDICTIONS = "predictions without a source row"
QUARANTINED = "quarantined rows without a source row"
REPLACED = "replaced predictions"
MOST = 0.1
"""If a greater share of old predictions has no source row, the query probably reads a window of time, or a table that
is being loaded: usually few rows are deleted for good at a time."""


@dataclass
class Pruned:
    """What was deleted, or would be, by kind; and notes on what was left alone."""

    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def preview(p: Producer, older_than: timedelta, *, even_most: bool = False, job: str | None = None) -> Pruned:
    """Count what `run` would delete now; nothing is changed. Raises UnknownName."""
    done = Pruned()
    with reachable(p.url), p.engine.connect() as connection:
        cutoff = database_clock.now(connection) - older_than
        rule = _Rule(cutoff, even_most, deletes=False, age=older_than)
        if job is not None:
            _prune_job(p, jobs.get(connection, job).job, rule, done)
            return done
        for kind in retention.KINDS:
            done.counts[kind.name] = retention.count(connection, kind, cutoff)
        done.counts[GENERATIONS] = len(retention.old_generations(connection, cutoff))
        done.counts[SNAPSHOTS] = len(old_snapshots.unneeded(connection, cutoff))
        done.counts[REPLACED] = sum(history.count(connection, s, cutoff) for s in history.with_history(connection))
        listed = jobs.listing(connection)
    for row in listed:
        _prune_job(p, row.job, rule, done)
    return done


def run(p: Producer, older_than: timedelta, by: str, *, even_most: bool = False, job: str | None = None) -> Pruned:
    """Delete in pieces that are committed one by one, so that it can be stopped and started again at any time.

    What an open run needs is never touched. Safe beside workers, and beside another prune. With `job` only predictions,
    and rows in quarantine, of that job are deleted whose source row is gone. Raises UnknownName.
    """
    done = Pruned()
    with reachable(p.url):
        with p.engine.begin() as connection:
            cutoff = database_clock.now(connection) - older_than
            listed = [jobs.get(connection, job)] if job is not None else jobs.listing(connection)
        if job is None:
            _prune_by_age(p, cutoff, done)
        for row in listed:
            _prune_job(p, row.job, _Rule(cutoff, even_most, deletes=True, age=older_than), done)
        with p.engine.begin() as connection:
            subject = "ledger" if job is None else f"job {job}"
            audit.record(connection, by, "ledger.pruned", subject, before=cutoff.isoformat(), **_counts(done))
    emit("ledger.pruned", by=by, before=cutoff, gone=_counts(done))
    return done


def follow(p: Producer, job: Job, cutoff: datetime) -> Pruned:
    """Delete predictions of this job that were made before the cutoff and have no source row, as `run` does.

    A role that only runs can do it, by a function of the ledger's owner.
    """
    done = Pruned()
    _prune_job(p, job, _Rule(cutoff, even_most=False, deletes=True, age=timedelta(seconds=1), follows=True), done)
    return done


@dataclass(frozen=True)
class _Rule:
    cutoff: datetime
    even_most: bool
    deletes: bool
    age: timedelta
    """For the command in a note."""
    follows: bool = False
    """For a job with `deleted = "follow"`."""


def _counts(done: Pruned) -> dict[str, int]:
    return {name.replace(" ", "_"): number for name, number in done.counts.items()}


def _prune_by_age(p: Producer, cutoff: datetime, done: Pruned) -> None:
    """What is old whatever the rows of a job are now."""
    for kind in retention.KINDS:
        done.counts[kind.name] = _delete_all(p, partial(retention.delete_piece, kind=kind, cutoff=cutoff))
    _drop_generations(p, cutoff, done)
    with p.engine.connect() as connection:
        snapshots = old_snapshots.unneeded(connection, cutoff)
    done.counts[SNAPSHOTS] = 0
    for table in snapshots:
        with p.engine.begin() as connection:
            dropped = old_snapshots.drop(connection, table, cutoff)
        done.counts[SNAPSHOTS] += dropped
        if not dropped:
            done.notes.append(f"{table} was left alone: it is being read, or a run may need it now")
    done.counts[REPLACED] = 0
    with p.engine.connect() as connection:
        sets = history.with_history(connection)
    for one in sets:
        done.counts[REPLACED] += _delete_all(p, partial(history.delete_piece, found=one, cutoff=cutoff))


def _delete_all(p: Producer, delete_piece: Callable[[Connection], int]) -> int:
    """Delete piece by piece, each in a transaction of its own, until none is left. Returns how many rows."""
    total = 0
    while True:
        with p.engine.begin() as connection:
            gone = delete_piece(connection)
        if not gone:
            return total
        total += gone


def _drop_generations(p: Producer, cutoff: datetime, done: Pruned) -> None:
    with p.engine.connect() as connection:
        old = retention.old_generations(connection, cutoff)
    done.counts[GENERATIONS] = 0
    for generation in old:
        why = None
        try:
            with p.engine.begin() as connection:
                if not retention.is_free(connection, generation, cutoff):
                    why = "a run may need it now"
                elif not set_drops.drop(connection, generation):
                    why = "it is being read, or another object depends on it"
        except DBAPIError as error:
            why = one_line(error.orig)
        done.counts[GENERATIONS] += why is None
        if why is not None:
            done.notes.append(f"{generation.table} was left alone: {why}")


def _prune_job(p: Producer, job: Job, rule: _Rule, done: Pruned) -> None:
    for name in (PREDICTIONS, QUARANTINED):
        done.counts.setdefault(name, 0)
    with p.engine.connect() as connection:
        if retention.has_open_run(connection, job.name):
            done.notes.append(f"job {job.name} has an open run; its predictions were left alone")
            return
        sets = retention.sets_of(connection, job.name)
    for target in sets:
        try:
            _prune_set(p, job, target, rule, done)
        except _JobChanged as error:
            done.notes.append(str(error))
            return
        except (QueryError, DBAPIError) as error:
            why = one_line(getattr(error, "orig", error))
            done.notes.append(f"{target.table} was left alone: the job's query cannot be compared with it: {why}")


def _prune_set(p: Producer, job: Job, target: PredictionSet, rule: _Rule, done: Pruned) -> None:
    with planning_cursor.reading(p.engine) as reader:
        if parameter_values.differ_by_run(reader, job):
            done.notes.append(
                f"{target.table} was left alone: the query of job {job.name} gives other rows for each run, so a row "
                "that it does not give now may be there nevertheless"
            )
            return
        found = source.read_columns(reader, job, parameter_values.of_no_run(reader))
        old, gone = orphans.predictions(reader, found, target, rule.cutoff)
        if gone > MOST * old and not rule.even_most:
            done.notes.append(
                f"{target.table} was left alone: the query of job {job.name} gives no row for {gone:,} of its {old:,}"
                f" old predictions, more than {MOST:.0%}: it may look at a window of time, or its table may not be"
                " whole just now. If those rows are gone for good, delete their predictions with `scorebeat prune"
                f" --job {job.name} --older-than {format_duration(rule.age)} --even-most`"
            )
            return
        quarantined = orphans.quarantined(reader, found, target, rule.cutoff)
        if not rule.deletes:
            done.counts[PREDICTIONS] += gone
            done.counts[QUARANTINED] += len(quarantined)
            return
        for keys in orphans.prediction_keys(reader, found, target, rule.cutoff) if gone else ():
            with p.engine.begin() as connection:
                _require_at_rest(connection, job)
                moves = rule.follows or target.history is not None
                delete = orphans.follow_predictions if moves else orphans.delete_predictions
                done.counts[PREDICTIONS] += delete(connection, found, target, keys, rule.cutoff)
    for start in range(0, len(quarantined), orphans.PIECE):
        with p.engine.begin() as connection:
            _require_at_rest(connection, job)
            done.counts[QUARANTINED] += orphans.delete_quarantined(
                connection, found, quarantined[start : start + orphans.PIECE]
            )


def _require_at_rest(connection: Connection, job: Job) -> None:
    if not retention.is_at_rest(connection, job):
        raise _JobChanged(f"job {job.name} got a run or was changed meanwhile; the rest of it was left alone")


class _JobChanged(ScorebeatError):
    """The job got a run or was changed: what prune knew of it may no longer be true."""
