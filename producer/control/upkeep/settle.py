"""Settling: closes a run whose batches are all final, and shows its predictions."""

from collections.abc import Callable

from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import ScorebeatError, StoredTwice, one_line
from scorebeat.core.events import emit
from scorebeat.core.states import RunState
from scorebeat.db.closing import close_run, keyed_runs, run_ends
from scorebeat.db.closing.close_run import BegunAgain, Settled
from scorebeat.db.connect import database_errors, locks
from scorebeat.db.ledger import next_step, runs
from scorebeat.db.ledger.runs import Run
from scorebeat.db.predictions.views import ViewBusy
from scorebeat.producer.context import Producer
from scorebeat.producer.keep_going import count_each


def settle(p: Producer, run_id: int) -> RunState | None:
    """Close the run if it is done; None if it is not, was closed before, was begun again, or cannot be shown.

    If the run lacks only the key of its generation, that is built before, which may take minutes. A run that can never
    be closed normally, for example because its table is gone, is failed with the reason.
    """
    return _closed(p, run_id, lambda: keyed_runs.settle(p.engine, run_id, p.settings.max_attempts))


def settle_soon(p: Producer, run_id: int) -> RunState | None:
    """`settle` for the one process that moves all runs: a key is left to `build_keys`."""
    return _closed(p, run_id, lambda: keyed_runs.settle_soon(p.engine, run_id, p.settings.max_attempts))


def settle_all(p: Producer) -> int:
    """Close every run that is done: two last commits cannot see each other. A run that fails stops no other."""
    with p.engine.begin() as connection:
        done = run_ends.settling(connection)
    return count_each("settle", done, lambda run_id: settle_soon(p, run_id) is not None)


def keys_are_due(p: Producer) -> bool:
    """Whether a run lacks only the key of its generation."""
    with p.engine.connect() as connection:
        return bool(keyed_runs.due(connection))


def build_keys(p: Producer) -> int:
    """Build the keys that runs lack, and close these runs; returns how many were closed."""
    with p.engine.connect() as connection:
        due = keyed_runs.due(connection)
    return count_each("key", due, lambda run_id: settle(p, run_id) is not None)


def _closed(p: Producer, run_id: int, close: Callable[[], Settled | BegunAgain | None]) -> RunState | None:
    try:
        closed = close()
    except (DBAPIError, ScorebeatError) as error:
        why = one_line(database_errors.message(error))
        if isinstance(error, StoredTwice):
            return _failed(p, run_id, why, next_step.by_another_run)
        if isinstance(error, ViewBusy) or database_errors.is_transient(error):
            emit("run.waits", run=run_id, reason=why)  # the next control tick tries again
            return None
        return _failed(p, run_id, f"the run could not be closed: {why}. Nothing new is shown.", next_step.of)
    if closed is None:
        return None
    closed.log()
    return None if isinstance(closed, BegunAgain) else closed.state


def _failed(p: Producer, run_id: int, reason: str, command: Callable[[Run], str]) -> RunState | None:
    """Fail the run with all that belongs to it. If that is impossible, because its table is gone, set its state alone.

    None if the run was closed before.
    """
    try:
        with p.engine.begin() as connection:
            locks.wait_at_most(connection, locks.IN_A_WORKER)
            recorded = close_run.fail(connection, run_id, reason, command)
    except (DBAPIError, ScorebeatError) as error:
        if database_errors.is_transient(error):
            raise
        with p.engine.begin() as connection:
            recorded = next_step.after(runs.get(connection, run_id), reason, command)
            if not runs.fail(connection, run_id, recorded):
                return None
    if recorded is None:
        return None
    emit("run.failed", run=run_id, reason=recorded)
    return RunState.FAILED
