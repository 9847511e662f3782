"""What the end of a run brings with it: its final state, and a finished generation shown and old ones dropped."""

from sqlalchemy import Connection

from core.states import RunState
from db import prediction_sets, runs, versions, views


def settle(connection: Connection, run_id: int) -> RunState | None:
    """Close the run if its batches are all final, in a transaction of its own; None when not.

    An every-run generation is complete when its run succeeded: the view then shows it instead of the one
    before, in the same transaction.
    """
    state = runs.settle(connection, run_id)
    if state is RunState.SUCCEEDED:
        run = runs.get(connection, run_id)
        target = prediction_sets.get(connection, run.prediction_set_id)
        if run.job.rescore == "every-run" and target.complete_at is None:
            prediction_sets.mark_complete(connection, target.id)
            current = versions.of_job(connection, run.job)
            if (current.name, current.version) == (target.model, target.model_version):
                views.show(connection, run.job.name, target)
            prediction_sets.drop_old(connection, target, run.job.keep)
    return state


def settle_if_done(connection: Connection, run_id: int) -> RunState | None:
    """`settle`, after a look that locks nothing: most commits are not the last."""
    return settle(connection, run_id) if runs.is_settled(connection, run_id) else None
