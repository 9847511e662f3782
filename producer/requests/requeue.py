"""Requeue and cancel: a person's requests on a run."""

from dataclasses import dataclass, replace
from datetime import timedelta

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import KeyBeingBuilt, StoredTwice, UnknownName, UsageError, one_line, shortened
from scorebeat.core.events import emit
from scorebeat.core.states import FINAL_RUN, RunState
from scorebeat.db.closing import atomic_runs, closed_runs
from scorebeat.db.connect import database_errors
from scorebeat.db.connect.engine import reachable
from scorebeat.db.connect.sql import Key, KeyRange
from scorebeat.db.ledger import batches, jobs, model_versions, next_step, runs, watermarks
from scorebeat.db.ledger.batches import NewBatch
from scorebeat.db.ledger.evidence import profiles
from scorebeat.db.ledger.failures import failure_groups, quarantine, requeued
from scorebeat.db.ledger.failures.requeued import EVERYTHING, Part
from scorebeat.db.ledger.runs import Run
from scorebeat.db.predictions import generation_keys, prediction_sets, set_drops
from scorebeat.db.records import audit, counters
from scorebeat.db.reports import status
from scorebeat.db.source.selection import snapshot
from scorebeat.producer.context import Producer
from scorebeat.producer.dispatch import dispatch


@dataclass(frozen=True)
class _Back:
    """The counts of what was put back."""

    batches: int
    rows: int
    """Rows that were in quarantine."""
    for_the_next_run: bool = False
    """The rows are pending, and no batch of this run is."""


def requeue(
    p: Producer,
    run_id: int,
    by: str,
    *,
    batch_id: int | None = None,
    error: str | None = None,
    group: str | None = None,
) -> int:
    """Put dead batches and quarantined rows of the run back: all, or those that match every argument.

    `error` is a text that their error contains; `group` is the id of a FailureGroup, and selects what it counts. Safe
    to repeat, and by two people at once; it is recorded even if nothing was left to do. Returns how many batches were
    put back. Raises UnknownName, or UsageError for a run that cannot go on, or only as a whole, or whose snapshot was
    dropped: then its quarantined rows are pending for the next run.
    """
    part = Part(batch_id, error, group)
    _require_key(p, run_id)
    with reachable(p.url), p.engine.begin() as connection:
        run = runs.get(connection, run_id, lock=True)
        _require_can_go_on(connection, run)
        held = runs.held_before(connection, run.job, run.model, run.model_version)
        if held is not None:
            raise UsageError(
                f"run {run.id} cannot go on while run {held} of job {run.job.name!r} is held by its gate. Nothing was "
                f"changed; decide first: `scorebeat release {held}` shows it, `scorebeat discard {held}` drops it"
            )
        _require_part(connection, run, part)
        error_text = error if group is None else failure_groups.words(connection, run_id, group)
        error_text = error_text and shortened(error_text)
        back = _put_back(connection, p, run, part)
        if back.batches and run.state in FINAL_RUN:
            closed_runs.free(connection, run.prediction_set_id)
            _require_no_other(connection, run)
            runs.reopen(connection, run.id)
        details = {"batches": back.batches, "rows_from_quarantine": back.rows, "batch": batch_id, "error": error_text}
        audit.record(connection, by, "run.requeued", f"run {run_id}", **details)
    if back.batches:
        emit("run.requeued", run=run_id, batches=back.batches, rows_from_quarantine=back.rows, by=by)
        dispatch(p, run.job.queue)
    if back.for_the_next_run:
        raise UsageError(
            f"the rows of run {run_id} were dropped with its snapshot, so no batch of it was put back. {back.rows:,} "
            "rows that it had in quarantine are pending now, as those of its dead batches are; "
            f"`{next_step.enqueue(run)}` scores them as they are now"
        )
    return back.batches


def _require_key(p: Producer, run_id: int) -> None:
    """Build the key of the run's generation before rows are put back: its batches may then have rows in common.

    Raises UsageError.
    """
    with reachable(p.url), p.engine.connect() as connection:
        run = runs.get(connection, run_id)
        _require_can_go_on(connection, run)
        if not generation_keys.is_missing(connection, run.prediction_set_id):
            return
        target = prediction_sets.get(connection, run.prediction_set_id)
        set_drops.require_table(connection, target)
    try:
        with reachable(p.url), p.engine.begin() as connection:
            generation_keys.build(connection, target)
    except StoredTwice as error:
        raise UsageError(f"run {run_id} cannot go on: {error}. {next_step.by_another_run(run)}") from None
    except (DBAPIError, KeyBeingBuilt) as error:
        if not database_errors.passes(error):
            raise
        raise UsageError(
            f"the primary key of {target.table} must be built before rows of run {run_id} are put back, and cannot be "
            f"built now: {one_line(database_errors.message(error))}. Nothing was put back; try again later"
        ) from None


def comes_back_whole(state: RunState, on_failure: str) -> bool:
    """Whether a requeue scores the whole run again: nothing of such a run was kept when it failed."""
    return state is RunState.FAILED and on_failure == "retry-run"


def _put_back(connection: Connection, p: Producer, run: Run, part: Part) -> _Back:
    model_versions.get(connection, run.model, run.model_version)  # it may have been dropped
    target = prediction_sets.get(connection, run.prediction_set_id)
    set_drops.require_table(connection, target)
    attempts = run.attempts(p.settings.max_attempts)
    if run.snapshot_rows is not None and not snapshot.is_there(connection, run.id):
        # what the run has in quarantine is pending for the next run, as the rows of its dead batches are
        if comes_back_whole(run.state, run.job.on_failure):
            return _Back(0, 0, for_the_next_run=True)
        jobs.get_any(connection, run.job.name, lock=True)  # no run begins until these rows are pending
        _require_no_other(connection, run)
        taken = quarantine.take_back(connection, run.id, part)
        watermarks.forget(connection, run.prediction_set_id)
        counters.add(connection, counters.ROWS_TAKEN_BACK, run.id, taken.rows)
        return _Back(0, taken.rows, for_the_next_run=True)
    if comes_back_whole(run.state, run.job.on_failure):
        # the whole run is scored again, hidden until it has succeeded, whatever readers see by now
        atomic_runs.undo(connection, run)
        profiles.forget(connection, run.id)
        atomic_runs.free(connection, run)
        atomic_runs.hide_what_comes(connection, target)
        atomic_runs.move_up(connection, run)
        return _Back(atomic_runs.begin_again(connection, run, attempts, timedelta(0)), 0)
    count = requeued.requeue_dead(connection, run.id, attempts, part)
    count += requeued.requeue_stopped(connection, run.id, attempts, part)
    taken = quarantine.take_back(connection, run.id, part)
    counters.add(connection, counters.ROWS_TAKEN_BACK, run.id, taken.rows)
    count += taken.freed + _add_batches(connection, run, taken.homeless, attempts)
    return _Back(count, taken.rows)


def _require_part(connection: Connection, run: Run, part: Part) -> None:
    if part.error == "":
        raise UsageError("the text that the error must hold is empty, and every error holds that; nothing was put back")
    if part != EVERYTHING and comes_back_whole(run.state, run.job.on_failure):
        raise UsageError(
            f'run {run.id} failed with on_failure = "retry-run": it is shown whole or not at all, and nothing of it '
            "was kept, so no single batch or error of it can be put back. Nothing was changed; requeue the whole run."
        )
    if part.batch_id is not None and not status.batches(connection, run.id, part.batch_id):
        raise UnknownName(
            f"run {run.id} has no batch {part.batch_id}; `scorebeat show {run.id} --json` lists its batches"
        )


def _require_can_go_on(connection: Connection, run: Run) -> None:
    score_them = f"its rows are pending. Score them with `{next_step.enqueue(run)}`."
    if run.state is RunState.CANCELLED:
        raise UsageError(f"run {run.id} was cancelled; {score_them}")
    if run.state is RunState.HELD:
        raise UsageError(
            f"run {run.id} is held by the gate of its job. Nothing was put back; decide first: `scorebeat release "
            f"{run.id}` shows it, `scorebeat discard {run.id}` drops it"
        )
    if (
        run.state is RunState.FAILED
        and run.makes_generation
        and audit.is_recorded(connection, "run.discarded", f"run {run.id}")
    ):
        # its table is empty: the rows that are put back would be all that readers see
        raise UsageError(f"run {run.id} was discarded, and what it scored is deleted; {score_them}")
    if run.state is RunState.FAILED and not requeued.has_batches(connection, run.id):
        raise UsageError(f"run {run.id} failed and has no batches, so nothing of it can be put back; {score_them}")
    if run.state is RunState.PLANNING:
        raise UsageError(
            f"run {run.id} is still being planned; nothing was put back. Requeue it when all its batches are made: "
            f"`scorebeat watch {run.id}` shows it."
        )
    if comes_back_whole(run.state, run.job.on_failure) and not run.plan_is_whole:
        raise UsageError(f"run {run.id} failed before all of it was planned, and nothing of it was kept; {score_them}")


def _add_batches(connection: Connection, run: Run, keys: list[Key], attempts: int) -> int:
    """Put rows that are pending again into new batches, by their keys; returns how many batches."""
    size = run.job.batch_rows
    number = requeued.next_number(connection, run.id)
    cut = [keys[i : i + size] for i in range(0, len(keys), size)]
    spans = [KeyRange(part[0], part[-1]) for part in cut]
    if cut and run.snapshot_rows is not None:
        stored = snapshot.source_of(connection, run.job, run.id)
        numbers = [snapshot.numbers_of(connection, run.job, run.id, stored, part) for part in cut]
        spans = [replace(span, numbers=found) for span, found in zip(spans, numbers, strict=True)]
    new = [
        NewBatch(number + i, len(part), span, tuple(part))
        for i, (span, part) in enumerate(zip(spans, cut, strict=True))
    ]
    if new:
        batches.add(connection, run.id, run.job.queue, attempts, new)
    return len(new)


def _require_no_other(connection: Connection, run: Run) -> None:
    other = runs.open_run(connection, run.job.name, run.model, run.model_version)
    if other is not None:
        raise UsageError(
            f"run {run.id} cannot go on while run {other} of job {run.job.name!r} is open: that one takes its "
            "pending rows too. Nothing was changed."
        )


def cancel(p: Producer, run_id: int, by: str) -> bool:
    """Stop an open run: nothing more of it is scored, what is committed stays. False if it was closed already."""
    with reachable(p.url), p.engine.begin() as connection:
        runs.get(connection, run_id, lock=True)
        moved = runs.cancel(connection, run_id, by)
        if moved:
            batches.cancel(connection, run_id)
    if moved:
        emit("run.cancelled", run=run_id, by=by)
    return moved
