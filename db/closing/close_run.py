"""Closing a run: its final state; a finished generation is shown, and old ones are dropped."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection

from scorebeat.core.errors import UnknownName
from scorebeat.core.events import emit
from scorebeat.core.states import RunState
from scorebeat.db.closing import atomic_runs, error_threshold, run_ends
from scorebeat.db.closing.run_ends import Tally
from scorebeat.db.ledger import batches, jobs, model_versions, next_step, runs
from scorebeat.db.ledger.runs import EVERYTHING, Run
from scorebeat.db.predictions import prediction_sets, set_drops, views
from scorebeat.db.schema import functions

RETRY_BUDGET = 5
RETRY_PAUSE = timedelta(seconds=10)


@dataclass(frozen=True)
class Settled:
    """A run that was closed just now."""

    run: int
    job: str
    state: RunState
    reason: str | None
    """Why it failed or what it left out, with the command to type next."""

    def tell(self) -> None:
        """Log it; called after the commit."""
        if self.reason is None:
            emit("run.finished", run=self.run, job=self.job, state=self.state.value)
        else:
            emit("run.finished", run=self.run, job=self.job, state=self.state.value, reason=self.reason)


def settle(connection: Connection, run_id: int) -> Settled | None:
    """Close the run if its batches are all final, in a transaction of its own; else None.

    Its predictions are shown in the same transaction: all of a retry-run, or an every-run generation that has every
    row except the quarantined ones.
    """
    if not run_ends.is_done(connection, run_id):
        return None
    run = runs.get(connection, run_id)
    tally = run_ends.tally(connection, run_id)
    if run.job.on_failure == "retry-run" and not tally.has_scored_all:
        reason = _all_or_nothing(connection, run, tally)
        if reason is None:
            return None
        state = RunState.FAILED
    elif (
        reason := error_threshold.stop(connection, run)
    ) is not None:  # a worker that died or came late could not stop it
        state = RunState.FAILED
    else:
        state, reason = run_ends.settle(connection, run, tally), run_ends.left_out(tally, run)
    if state in (RunState.SUCCEEDED, RunState.PARTIAL):
        atomic_runs.show(connection, run)
        if run.job.rescore == "every-run" and run.selection == EVERYTHING and tally.can_be_shown:
            _show_generation(connection, run)
    if state in (RunState.PARTIAL, RunState.FAILED):
        _pause_if_stuck(connection, run)
    return Settled(run_id, run.job.name, state, reason)


def fail(connection: Connection, run_id: int, reason: str) -> str | None:
    """An open run fails as a whole, before its batches are all final: they are cancelled.

    A retry-run's predictions are deleted. Returns the reason with the command to type next; None if the run was closed
    before.
    """
    run = runs.get(connection, run_id, lock=True)
    full_reason = next_step.after(run, reason)
    if not runs.fail(connection, run_id, full_reason):
        return None
    batches.cancel(connection, run_id)
    if run.job.on_failure == "retry-run":
        atomic_runs.undo(connection, run)
        atomic_runs.reset_scored_counts(connection, run)
    return full_reason


def _all_or_nothing(connection: Connection, run: Run, tally: Tally) -> str | None:
    """Delete the run's predictions and begin it again, or fail it if it has no tries left or its plan was cut short.

    If it fails, its quarantined rows stay with their errors until they are tried again. Returns the reason; None if it
    begins again.
    """
    atomic_runs.undo(connection, run)
    why = f"{tally.dead + tally.cancelled} of {tally.batches} batches are dead and {tally.failed} rows failed"
    if tally.plan_is_whole and run.tries < run.job.run_attempts:
        atomic_runs.free(connection, run)
        atomic_runs.begin_again(connection, run, RETRY_BUDGET, RETRY_PAUSE * run.tries)
        emit("run.begun_again", run=run.id, tries=run.tries + 1, reason=f"{why}: {tally.error}")
        return None
    reason = next_step.after(run, f"{why} in the last of {run.tries} tries; nothing of the run is shown: {tally.error}")
    if not tally.plan_is_whole:
        reason = f"nothing of the run is shown, nor kept: {run_ends.left_out(tally, run)}"
    runs.fail(connection, run.id, reason)
    atomic_runs.reset_scored_counts(connection, run)
    return reason


def _show_generation(connection: Connection, run: Run) -> None:
    target = prediction_sets.get(connection, run.prediction_set_id)
    if target.complete_at is not None:
        return
    functions.call(connection, "complete_generation", target.id)
    newest = prediction_sets.shown(connection, run.job, target.model_version)
    if newest is None or newest.id != target.id:
        return  # a requeue completed it after a newer one was shown
    if _is_followed(connection, run):
        views.show_generation(connection, run.job.name, target)
    set_drops.drop_old(connection, target, run.job.keep)


def _is_followed(connection: Connection, run: Run) -> bool:
    """Whether readers should see the run's version. Job and model stay as they are until this transaction ends.

    A job that left jobs.toml follows the version that it followed then.
    """
    if not model_versions.keep_published(connection, run.model):
        raise views.ViewBusy(f"versions of model {run.model!r} are being changed; nothing was switched")
    job = jobs.get_locked(connection, run.job.name) or run.job
    if job.pinned_version is not None:
        return job.model == f"{run.model}/{run.model_version}"
    published = model_versions.published(connection, run.model)
    return job.model == run.model and published is not None and published.version == run.model_version


def _pause_if_stuck(connection: Connection, run: Run) -> None:
    """Pause the job after `dead_runs` runs in a row with dead batches: a person must look at its environment."""
    error = run_ends.dead_in_a_row(connection, run.job.name, run.job.dead_runs)
    if error is not None:
        reason = (
            f"{run.job.dead_runs} runs in a row left dead batches, the last with: {error}. When it is fixed, "
            f"`scorebeat resume {run.job.name}` lets the job go on"
        )
        with suppress(UnknownName):  # it has left jobs.toml: no ticks are to be stopped
            if jobs.pause(connection, run.job.name, "scorebeat", reason):
                emit("job.paused", job=run.job.name, reason=reason)
