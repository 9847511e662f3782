"""Loading the model of a batch; a worker that cannot leaves the batch to those who may be able to."""

import logging
import time
from contextlib import suppress
from datetime import timedelta

from billiard.exceptions import SoftTimeLimitExceeded
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import ScorebeatError, one_line
from scorebeat.core.events import emit
from scorebeat.db.ledger import batches
from scorebeat.db.ledger.batches import Claim
from scorebeat.db.ledger.model_versions import Version
from scorebeat.db.processes import unloadable
from scorebeat.models.scoring.micro_batches import MicroBatches
from scorebeat.worker.scoring.recover import describe
from scorebeat.worker.scoring.runtime import Runtime

AGAIN_AFTER = 60.0
"""Seconds after which a process tries again to load a model that it could not load."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 10.0
"""Seconds that a process takes no message after it left one to others; doubled each time."""
PAUSE = timedelta(seconds=1)
"""After which the batch is due for others."""


class LeftToOthers(ScorebeatError):
    """This worker cannot load the batch's model, and another one may."""


def load(w: Runtime, held: Claim, version: Version) -> MicroBatches:
    """The model, ready to score.

    Raises LeftToOthers where this worker cannot load it and another serves the batch's queue; else whatever loading
    raises, which then is the batch's failure.
    """
    model = str(version)
    if time.monotonic() < w.unloadable.get(model, 0.0) and _is_for_others(w, held, model):
        raise LeftToOthers(f"{w.name} could not load model {model} a moment ago")
    try:
        loaded = w.model(version)
    except (DBAPIError, SoftTimeLimitExceeded):
        raise
    except Exception as error:
        reason = describe(error)
        w.unloadable[model] = time.monotonic() + AGAIN_AFTER
        emit("model.cannot_load", logging.ERROR, worker=w.name, model=model, reason=reason)
        with suppress(DBAPIError), w.engine.begin() as connection:
            unloadable.cannot(connection, w.name, model, reason)
        if _is_for_others(w, held, model):
            raise LeftToOthers(f"{w.name} cannot load model {model}: {reason}") from error
        raise
    if w.unloadable.pop(model, None) is not None:
        emit("model.can_load", worker=w.name, model=model)
        with suppress(DBAPIError), w.engine.begin() as connection:
            unloadable.can(connection, w.name, model)
    return loaded


def leave(w: Runtime, held: Claim, why: LeftToOthers) -> None:
    """Give the batch back, with its attempt, and take nothing for a while: a queue that this worker empties is of no
    use to the others."""
    try:
        with w.engine.begin() as connection:
            batches.postpone(connection, held, str(why), PAUSE)
    except DBAPIError as away:
        emit("failure.not_recorded", batch=held.batch_id, attempt=held.attempt, reason=one_line(away.orig))
    wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(w.left_to_others, 10))
    w.left_to_others += 1
    emit(
        "batch.left_to_others",
        logging.WARNING,
        run=held.run_id,
        batch=held.batch_id,
        worker=w.name,
        seconds=wait,
        reason=str(why),
    )
    time.sleep(wait)


def _is_for_others(w: Runtime, held: Claim, model: str) -> bool:
    try:
        with w.engine.connect() as connection:
            return unloadable.is_for_others(connection, held.batch_id, w.name, model)
    except DBAPIError:
        return False
