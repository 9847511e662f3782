"""Requeue and cancel: what a person asks of a run."""

from sqlalchemy import Connection

from core.errors import UsageError
from core.events import emit
from core.states import FINAL_RUN, RunState
from db import actions, batches, runs
from db.engine import reachable
from producer.context import Producer
from producer.dispatch import dispatch


def requeue(p: Producer, run_id: int, by: str, *, batch_id: int | None = None, error: str | None = None) -> int:
    """Put dead batches of the run back: all, one, or those whose error holds a text. Safe to repeat.

    Answers how many. Raises UnknownName, or UsageError for a run that cannot go on.
    """
    with reachable(p.url), p.engine.begin() as connection:
        run = runs.get(connection, run_id, lock=True)
        if run.state is RunState.CANCELLED:
            raise UsageError(
                f"run {run_id} was cancelled; its rows are pending. Score them with `scorebeat enqueue {run.job.name}`."
            )
        put_back = batches.requeue_dead(connection, run_id, p.settings.max_attempts, batch_id, error)
        if put_back and run.state in FINAL_RUN:
            _reopen(connection, run)
        if put_back:
            actions.record(connection, by, "run.requeued", f"run {run_id}", batches=put_back, error=error)
    if put_back:
        emit("run.requeued", run=run_id, batches=put_back, by=by)
        dispatch(p, run.job.queue)
    return put_back


def _reopen(connection: Connection, run: runs.Run) -> None:
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
