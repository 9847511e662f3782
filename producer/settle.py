"""Settling: closing a run whose batches are all final, and showing what it made."""

from core.events import emit
from core.states import RunState
from db import run_ends, settling
from db.views import ViewBusy
from producer.context import Producer


def settle(p: Producer, run_id: int) -> RunState | None:
    """Close the run if it is done; None when it is not, was closed before, or readers hold its job's view."""
    try:
        with p.engine.begin() as connection:
            state = settling.settle(connection, run_id)
    except ViewBusy as error:
        emit("run.waits", run=run_id, reason=str(error))  # the next control tick tries again
        return None
    if state is not None:
        emit("run.finished", run=run_id, state=state.value)
    return state


def settle_all(p: Producer) -> int:
    """Close every run that is done: two last commits cannot see each other."""
    with p.engine.begin() as connection:
        done = run_ends.settling(connection)
    return sum(settle(p, run_id) is not None for run_id in done)
