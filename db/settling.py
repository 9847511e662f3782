"""What the end of a run brings with it: its final state, and a finished generation shown and old ones dropped."""

from sqlalchemy import Connection

from core.events import emit
from core.states import RunState
from db import jobs, prediction_sets, runs, versions, views
from db.runs import Run


def settle(connection: Connection, run_id: int) -> RunState | None:
    """Close the run if its batches are all final, in a transaction of its own; None when not.

    An every-run generation is complete when its run succeeded: the view then shows it instead of the one
    before, in the same transaction.
    """
    state = runs.settle(connection, run_id)
    if state is None:
        return None
    run = runs.get(connection, run_id)
    if state is not RunState.SUCCEEDED:
        _pause_if_stuck(connection, run)
    elif run.job.rescore == "every-run":
        _show_generation(connection, run)
    return state


def _show_generation(connection: Connection, run: Run) -> None:
    target = prediction_sets.get(connection, run.prediction_set_id)
    if target.complete_at is not None:
        return
    prediction_sets.mark_complete(connection, target.id)
    current = versions.of_job(connection, run.job)
    if (current.name, current.version) == (target.model, target.model_version):
        views.show(connection, run.job.name, target)
    prediction_sets.drop_old(connection, target, run.job.keep)


def _pause_if_stuck(connection: Connection, run: Run) -> None:
    """The environment failed so many runs in a row that a person must look."""
    error = runs.dead_in_a_row(connection, run.job.name, run.job.dead_runs)
    if error is not None:
        reason = f"{run.job.dead_runs} runs in a row left dead batches, the last with: {error}"
        if jobs.pause(connection, run.job.name, "scorebeat", reason):
            emit("job.paused", job=run.job.name, reason=reason)


def settle_if_done(connection: Connection, run_id: int) -> RunState | None:
    """`settle`, after a look that locks nothing: most commits are not the last."""
    return settle(connection, run_id) if runs.is_settled(connection, run_id) else None
