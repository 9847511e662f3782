"""What the end of a run brings with it: its final state, and a finished generation shown and old ones dropped."""

from datetime import timedelta

from sqlalchemy import Connection

from core.events import emit
from core.states import RunState
from db import jobs, prediction_sets, run_ends, runs, versions, views, whole_runs
from db.run_ends import Tally
from db.runs import Run

RETRY_BUDGET = 5
RETRY_PAUSE = timedelta(seconds=10)


def settle(connection: Connection, run_id: int) -> RunState | None:
    """Close the run if its batches are all final, in a transaction of its own; None when not.

    An every-run generation is complete when its run succeeded: the view then shows it instead of the one
    before, in the same transaction.
    """
    if not run_ends.is_done(connection, run_id):
        return None
    run = runs.get(connection, run_id)
    tally = run_ends.tally(connection, run_id)
    if run.job.on_failure == "retry-run" and tally.dead + tally.failed:
        state = _all_or_nothing(connection, run, tally)
    else:
        state = run_ends.settle(connection, run_id, tally)
    if state is RunState.SUCCEEDED:
        _show(connection, run)
    elif state is not None:
        _pause_if_stuck(connection, run)
    return state


def _show(connection: Connection, run: Run) -> None:
    if run.job.on_failure == "retry-run":
        whole_runs.show(connection, run)
    if run.job.rescore == "every-run":
        _show_generation(connection, run)


def _all_or_nothing(connection: Connection, run: Run, tally: Tally) -> RunState | None:
    """Delete what the run made and begin it again, or let it fail when that was done often enough."""
    whole_runs.undo(connection, run, prediction_sets.get(connection, run.prediction_set_id))
    why = f"{tally.dead} of {tally.batches} batches are dead and {tally.failed} rows failed"
    if run.tries < run.job.run_attempts:
        whole_runs.begin_again(connection, run, RETRY_BUDGET, RETRY_PAUSE * run.tries)
        emit("run.begun_again", run=run.id, tries=run.tries + 1, reason=f"{why}: {tally.error}")
        return None
    reason = f"{why} in the last of {run.tries} tries; nothing of the run is shown: {tally.error}"
    runs.fail(connection, run.id, reason)
    return RunState.FAILED


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
    error = run_ends.dead_in_a_row(connection, run.job.name, run.job.dead_runs)
    if error is not None:
        reason = f"{run.job.dead_runs} runs in a row left dead batches, the last with: {error}"
        if jobs.pause(connection, run.job.name, "scorebeat", reason):
            emit("job.paused", job=run.job.name, reason=reason)


def settle_if_done(connection: Connection, run_id: int) -> RunState | None:
    """`settle`, after a look that locks nothing: most commits are not the last."""
    return settle(connection, run_id) if run_ends.is_settled(connection, run_id) else None
