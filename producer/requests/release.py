"""A person's decision on a run that its gate holds: show it to readers, or drop what it scored."""

from dataclasses import replace

from sqlalchemy import Connection

from scorebeat.core.errors import UsageError, require_short
from scorebeat.core.events import emit
from scorebeat.core.states import RunState
from scorebeat.db.closing import atomic_runs, close_run, run_profiles
from scorebeat.db.closing.close_run import Settled
from scorebeat.db.connect.engine import reachable
from scorebeat.db.ledger import next_step, runs
from scorebeat.db.ledger.evidence import profiles
from scorebeat.db.ledger.runs import Run
from scorebeat.db.predictions import prediction_sets, set_drops
from scorebeat.db.records import audit
from scorebeat.producer.context import Producer

LONGEST_WHY = 500


def release(p: Producer, run_id: int, by: str, why: str = "") -> None:
    """Show a held run to readers, although it did not pass its gate; recorded with the person and the reason.

    Raises UnknownName; UsageError if the run is not held, or can be shown no more: then nothing was changed.
    """
    require_short("the reason", why, LONGEST_WHY)
    with reachable(p.url), p.engine.begin() as connection:
        run = _held(connection, run_id)
        other = runs.open_run(connection, run.job.name, run.model, run.model_version)
        if other is not None:
            raise UsageError(
                f"run {other} of job {run.job.name} is open. Nothing was changed; release run {run.id} when that has "
                f"ended (`scorebeat watch {other}`), or stop it with `scorebeat cancel {other}`"
            )
        target = prediction_sets.get(connection, run.prediction_set_id)
        seen = prediction_sets.shown(connection, run.job, run.model_version)
        if run.makes_generation and seen is not None and seen.generation > target.generation:
            raise UsageError(
                f"readers see a newer run of job {run.job.name} by now, and older predictions would replace its own. "
                f"Nothing was changed; `scorebeat discard {run.id}` drops this one"
            )
        set_drops.require_table(connection, target)
        runs.release(connection, run_id)
        audit.record(connection, by, "run.released", f"run {run_id}", why=why, held_for=run.reason)
        closed = close_run.settle(connection, run_id, p.settings.max_attempts)
        if not isinstance(closed, Settled):  # a batch of it is open, or the key of its table is gone
            raise UsageError(f"run {run_id} cannot be closed now. Nothing was changed; try again later")
    emit("run.released", run=run_id, by=by, why=why)
    replace(closed, judged=run_profiles.NOTHING, not_compared=None).log()  # its drift was reported when it was held


def discard(p: Producer, run_id: int, by: str, why: str = "") -> None:
    """Drop what a held run scored; readers keep what they see. Recorded with the person and the reason.

    The rows of a run with `on_failure = "retry-run"` are pending again. Raises as `release`.
    """
    require_short("the reason", why, LONGEST_WHY)
    with reachable(p.url), p.engine.begin() as connection:
        run = _held(connection, run_id)
        because = f": {why}" if why else ""
        reason = next_step.after(run, f"{by} discarded what the gate had held{because}", next_step.by_another_run)
        runs.discard(connection, run_id, reason)
        profiles.forget(connection, run_id)
        if run.makes_generation:
            set_drops.empty_unshown(connection, prediction_sets.get(connection, run.prediction_set_id))
        else:
            atomic_runs.undo(connection, run)
            atomic_runs.reset_scored_counts(connection, run)
        audit.record(connection, by, "run.discarded", f"run {run_id}", why=why, held_for=run.reason)
    emit("run.discarded", run=run_id, by=by, why=why)


def _held(connection: Connection, run_id: int) -> Run:
    run = runs.get(connection, run_id, lock=True)
    if run.state is not RunState.HELD:
        raise UsageError(f"run {run_id} is {run.state}, and no gate holds it. Nothing was changed")
    return run
