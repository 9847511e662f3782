"""Closing a run: its final state; a finished generation is shown, and old ones are dropped."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection

from scorebeat.core.errors import UnknownName
from scorebeat.core.events import emit
from scorebeat.core.states import RunState
from scorebeat.db.closing import atomic_runs, error_threshold, gates, run_ends, run_profiles
from scorebeat.db.closing.run_ends import Tally
from scorebeat.db.closing.run_profiles import NOTHING, Judged
from scorebeat.db.ledger import batches, jobs, model_versions, next_step, runs
from scorebeat.db.ledger.evidence import profiles
from scorebeat.db.ledger.runs import Run
from scorebeat.db.predictions import comparison, generation_keys, prediction_sets, set_drops, views
from scorebeat.db.records import audit
from scorebeat.db.schema import functions

RETRY_PAUSE = timedelta(seconds=10)


@dataclass(frozen=True)
class Settled:
    """A run that was closed just now."""

    run: int
    job: str
    state: RunState
    reason: str | None
    """Why it failed, or what it left out, and what to type."""
    paused: str | None = None
    """Why its job was paused with it."""
    judged: Judged = NOTHING
    """How far its inputs and outputs are from the reference."""
    not_compared: str | None = None
    """Why that is not known, if a person should know that it is not."""

    def log(self) -> None:
        """To be called when the transaction is committed."""
        self.judged.log(self.run, self.job)
        if self.not_compared is not None:
            emit("run.not_compared", run=self.run, job=self.job, reason=self.not_compared)
        if self.paused is not None:
            emit("job.paused", job=self.job, reason=self.paused)
        if self.reason is None:
            emit("run.finished", run=self.run, job=self.job, state=self.state.value)
        else:
            emit("run.finished", run=self.run, job=self.job, state=self.state.value, reason=self.reason)


@dataclass(frozen=True)
class BegunAgain:
    """A retry-run that lost what it made, and whose batches are pending again."""

    run: int
    tries: int
    reason: str

    def log(self) -> None:
        """To be called when the transaction is committed."""
        emit("run.begun_again", run=self.run, tries=self.tries, reason=self.reason)


def settle(connection: Connection, run_id: int, attempts: int) -> Settled | BegunAgain | None:
    """Close the run if its batches are all final, in a transaction of its own; None if they are not.

    None also if it would be shown, but its generation lacks its key: `keyed_runs`.

    A retry-run that can still succeed is begun again, its batches with a budget of `attempts` each. The caller logs
    what is returned when the transaction is committed.

    Its predictions are shown in the same transaction: all of a retry-run, or an every-run generation that has every
    row except the quarantined ones. A run that the gate of its job stops is held instead, unless a person
    released it.
    """
    if not run_ends.is_done(connection, run_id):
        return None
    run = runs.get(connection, run_id)
    tally = run_ends.tally(connection, run_id)
    reason: str | None
    if run.job.on_failure == "retry-run" and not tally.has_scored_all:
        if tally.plan_is_whole and run.tries < run.job.run_attempts:
            atomic_runs.undo(connection, run)
            profiles.forget(connection, run.id)
            atomic_runs.free(connection, run)
            atomic_runs.begin_again(connection, run, attempts, RETRY_PAUSE * run.tries)
            return BegunAgain(run.id, run.tries + 1, f"{_lost(tally)}: {tally.error}")
        state, reason = RunState.FAILED, _fail_whole(connection, run, tally)
    # a worker that died, or came late, could not stop a run that is past its threshold
    elif stopped := error_threshold.stop(connection, run) or _fail_if_readers_lose_all(connection, run, tally):
        state, reason = RunState.FAILED, stopped
    elif generation_keys.is_missing(connection, run.prediction_set_id):
        return None
    else:
        state, reason = run_ends.settle(connection, run, tally), run_ends.left_out(tally, run)
    judged, stopped_by = NOTHING, ""
    if state in (RunState.SUCCEEDED, RunState.PARTIAL):
        judged = run_profiles.judge(connection, run, tally)
        unmet = "; ".join(gates.reasons(run, tally, judged))
        # a run that a person has ever released passes
        stopped_by = "" if unmet and audit.is_recorded(connection, "run.released", f"run {run_id}") else unmet
        if stopped_by and _is_hidden(connection, run, tally):
            state, reason = RunState.HELD, next_step.held(run, stopped_by, reason)
            runs.hold(connection, run_id, reason)
        else:
            run_profiles.adopt(connection, run, judged)
            atomic_runs.show(connection, run)
            if run.makes_generation and tally.can_be_shown:
                _show_generation(connection, run)
    paused = _pause_if_stuck(connection, run) if state in (RunState.PARTIAL, RunState.FAILED) else None
    if stopped_by and state is not RunState.HELD:
        paused = _pause(
            connection, run, f"run {run_id} did not pass the gate, and readers see it already: {stopped_by}"
        )
    return Settled(run_id, run.job.name, state, reason, paused, judged, gates.not_compared(run, judged))


def fail(connection: Connection, run_id: int, reason: str, command: Callable[[Run], str] = next_step.of) -> str | None:
    """An open run fails as a whole, before its batches are all final: they are cancelled.

    A retry-run's predictions are deleted. Returns the reason with the command to type next; None if the run was closed
    before.
    """
    run = runs.get(connection, run_id, lock=True)
    full_reason = next_step.after(run, reason, command)
    if not runs.fail(connection, run_id, full_reason):
        return None
    batches.cancel(connection, run_id)
    if run.job.on_failure == "retry-run":
        atomic_runs.undo(connection, run)
        profiles.forget(connection, run.id)
        atomic_runs.reset_scored_counts(connection, run)
    return full_reason


def _fail_whole(connection: Connection, run: Run, tally: Tally) -> str:
    """Delete what the run made: it was begun again often enough, or that cannot help. Returns the reason.

    What it quarantined stays in quarantine and says why, until those rows are tried again.
    """
    atomic_runs.undo(connection, run)
    profiles.forget(connection, run.id)
    tried = f"{_lost(tally)} in the last of {run.tries} tries; nothing of the run is shown: {tally.error}"
    reason = next_step.after(run, tried)
    if not tally.plan_is_whole:
        reason = f"nothing of the run is shown, nor kept: {run_ends.left_out(tally, run)}"
    runs.fail(connection, run.id, reason)
    atomic_runs.reset_scored_counts(connection, run)
    return reason


def _lost(tally: Tally) -> str:
    return f"{tally.dead + tally.cancelled} of {tally.batches} batches are dead and {tally.failed} rows failed"


def _fail_if_readers_lose_all(connection: Connection, run: Run, tally: Tally) -> str | None:
    """Fail a run that found no row, if readers would lose all predictions of its version by it.

    A table that is being loaded anew is empty for a while. Returns the reason; None if readers lose nothing.
    """
    if not run.makes_generation or run.job.allow_empty or not tally.has_found_nothing:
        return None
    seen = views.read_now(connection, run.job.name)
    if seen is None or (seen.model, seen.model_version) != (run.model, run.model_version):
        return None
    if seen.id == run.prediction_set_id or not comparison.has_rows(connection, seen):
        return None
    reason = (
        "the query gave no row, and readers would lose all predictions of before, which stay. "
        f"`{next_step.enqueue(run)}` scores the rows when they are there; where no row is right, say allow_empty = "
        f"true in [jobs.{run.job.name}]"
    )
    return reason if runs.fail(connection, run.id, reason) else None


def _is_hidden(connection: Connection, run: Run, tally: Tally) -> bool:
    """Whether readers see nothing of the run yet, so that it can be held."""
    if run.makes_generation:  # a requeue ends one that was shown before
        return tally.can_be_shown and prediction_sets.get(connection, run.prediction_set_id).complete_at is None
    return run.job.on_failure == "retry-run" and prediction_sets.hides(connection, run.prediction_set_id)


def _show_generation(connection: Connection, run: Run) -> None:
    target = prediction_sets.get(connection, run.prediction_set_id)
    if target.complete_at is not None:
        return
    # what readers saw until now may go to a history, which takes longer than other statements may
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
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


def _pause_if_stuck(connection: Connection, run: Run) -> str | None:
    """Pause the job when the environment failed so many runs in a row that a person must look. Returns the reason."""
    error = run_ends.dead_in_a_row(connection, run.job.name, run.job.dead_runs)
    if error is None:
        return None
    return _pause(connection, run, f"{run.job.dead_runs} runs in a row left dead batches, the last with: {error}")


def _pause(connection: Connection, run: Run, why: str) -> str | None:
    """Pause the job of the run. Returns the reason; None if it was paused before, or has left jobs.toml."""
    reason = f"{why}. When it is mended, `scorebeat resume {run.job.name}` lets the job go on"
    try:
        return reason if jobs.pause(connection, run.job.name, "scorebeat", reason) else None
    except UnknownName:  # it has left jobs.toml: no ticks are to be stopped
        return None
