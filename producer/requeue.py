"""Requeue and cancel: what a person asks of a run."""

from datetime import timedelta

from sqlalchemy import Connection

from core.errors import UsageError
from core.events import emit
from core.states import FINAL_RUN, RunState
from db import actions, batches, prediction_sets, quarantine, requeued, runs, set_drops, versions, whole_runs
from db.batches import NewBatch
from db.engine import reachable
from db.prediction_sets import PredictionSet
from db.runs import Run
from db.sql import Key, KeyRange
from producer.context import Producer
from producer.dispatch import dispatch


def requeue(p: Producer, run_id: int, by: str, *, batch_id: int | None = None, error: str | None = None) -> int:
    """Put dead batches and quarantined rows of the run back: all, of one batch, or by a text in their error.

    Safe to repeat. Answers how many batches. Raises UnknownName, or UsageError for a run that cannot go on.
    """
    with reachable(p.url), p.engine.begin() as connection:
        run = runs.get(connection, run_id, lock=True)
        versions.get(connection, run.model, run.model_version)  # it may have been dropped
        target = prediction_sets.get(connection, run.prediction_set_id)
        _require_can_go_on(run)
        set_drops.require_table(connection, target)
        attempts = 1 if run.job.on_failure == "leave" else p.settings.max_attempts
        rows = 0
        if _was_undone(run):
            put_back = _begin_again(connection, run, target, attempts)
        else:
            put_back = requeued.requeue_dead(connection, run_id, attempts, batch_id, error)
            put_back += requeued.requeue_stopped(connection, run_id, attempts, batch_id)
            taken = quarantine.take_back(connection, run_id, batch_id, error)
            put_back += taken.freed + _batches_of(connection, run, taken.homeless, attempts)
            rows = taken.rows
        if put_back and run.state in FINAL_RUN:
            _reopen(connection, run)
        if put_back:
            details = {"batches": put_back, "rows_from_quarantine": rows, "error": error}
            actions.record(connection, by, "run.requeued", f"run {run_id}", **details)
    if put_back:
        emit("run.requeued", run=run_id, batches=put_back, rows_from_quarantine=rows, by=by)
        dispatch(p, run.job.queue)
    return put_back


def _was_undone(run: Run) -> bool:
    return run.state is RunState.FAILED and run.job.on_failure == "retry-run"


def _require_can_go_on(run: Run) -> None:
    score_them = f"its rows are pending. Score them with `scorebeat enqueue {run.job.name}`."
    if run.state is RunState.CANCELLED:
        raise UsageError(f"run {run.id} was cancelled; {score_them}")
    if run.state is RunState.PLANNING:
        raise UsageError(
            f"run {run.id} is still being planned; nothing was put back. Requeue it when all its batches are made: "
            f"`scorebeat watch {run.id}` shows it."
        )
    if _was_undone(run) and not run.plan_is_whole:
        raise UsageError(f"run {run.id} failed before all of it was planned, and nothing of it was kept; {score_them}")


def _begin_again(connection: Connection, run: Run, target: PredictionSet, attempts: int) -> int:
    """A whole run that failed: all of it once more, hidden until it has succeeded, whatever readers see by now."""
    whole_runs.undo(connection, run)
    whole_runs.hide_what_comes(connection, target)
    whole_runs.move_up(connection, run)
    return whole_runs.begin_again(connection, run, attempts, timedelta(0))


def _batches_of(connection: Connection, run: Run, keys: list[Key], attempts: int) -> int:
    """Rows that are pending again go into batches of their own, by their keys."""
    size = run.job.batch_rows
    number = requeued.next_number(connection, run.id)
    cut = [keys[i : i + size] for i in range(0, len(keys), size)]
    new = [NewBatch(number + i, len(part), KeyRange(part[0], part[-1]), tuple(part)) for i, part in enumerate(cut)]
    if new:
        batches.add(connection, run.id, run.job.queue, attempts, new)
    return len(new)


def _reopen(connection: Connection, run: Run) -> None:
    other = runs.open_run(connection, run.job.name, run.model, run.model_version)
    if other is not None:
        raise UsageError(
            f"run {run.id} cannot go on while run {other} of job {run.job.name!r} is open: that one takes its "
            "pending rows too. Nothing was changed."
        )
    runs.reopen(connection, run.id)


def cancel(p: Producer, run_id: int, by: str) -> bool:
    """Stop an open run: nothing more of it is scored, what is committed stays. False when it was closed."""
    with reachable(p.url), p.engine.begin() as connection:
        runs.get(connection, run_id, lock=True)
        moved = runs.cancel(connection, run_id, by)
        if moved:
            batches.cancel(connection, run_id)
    if moved:
        emit("run.cancelled", run=run_id, by=by)
    return moved
