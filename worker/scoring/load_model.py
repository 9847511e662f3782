"""Loads the model of a batch; a worker that cannot load it leaves the batch to other workers."""

import logging
import time
from contextlib import suppress
from datetime import timedelta

from billiard.exceptions import SoftTimeLimitExceeded
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import GoldenDiffers, ScorebeatError, one_line
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
"""Seconds that a process waits before its next message after it left a batch to others; doubled each time."""
PAUSE = timedelta(seconds=1)
"""Time after which the batch is due for other workers."""


class LeftToOthers(ScorebeatError):
    """This worker cannot load the batch's model, and another one may."""


def load(runtime: Runtime, claim: Claim, version: Version) -> MicroBatches:
    """The model, ready to score.

    Raises LeftToOthers if this worker cannot load it and another one serves the batch's queue; else whatever loading
    raises, which then is the failure of the batch.
    """
    model = str(version)
    if time.monotonic() < runtime.unloadable.get(model, 0.0) and _can_others_load(runtime, claim, model):
        raise LeftToOthers(f"{runtime.name} could not load model {model} shortly before")
    try:
        loaded = runtime.model(version)
    except (DBAPIError, SoftTimeLimitExceeded):
        raise
    except Exception as error:
        reason = describe(error)
        runtime.unloadable[model] = time.monotonic() + AGAIN_AFTER
        emit("model.cannot_load", logging.ERROR, worker=runtime.name, model=model, reason=reason)
        with suppress(DBAPIError), runtime.engine.begin() as connection:
            unloadable.cannot(connection, runtime.name, model, reason, is_refused=isinstance(error, GoldenDiffers))
        if _can_others_load(runtime, claim, model):
            raise LeftToOthers(f"{runtime.name} cannot load model {model}: {reason}") from error
        raise
    if runtime.unloadable.pop(model, None) is not None:
        emit("model.can_load", worker=runtime.name, model=model)
        with suppress(DBAPIError), runtime.engine.begin() as connection:
            unloadable.can(connection, runtime.name, model)
    return loaded


def leave(runtime: Runtime, claim: Claim, why: LeftToOthers, cpu: float) -> None:
    """Give the batch and its attempt back, and wait before the next message: a worker that cannot load the model must
    not empty the queue of those that can."""
    try:
        with runtime.engine.begin() as connection:
            batches.postpone(connection, claim, str(why), PAUSE, cpu)
    except DBAPIError as unreachable:
        emit("failure.not_recorded", batch=claim.batch_id, attempt=claim.attempt, reason=one_line(unreachable.orig))
    wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(runtime.left_to_others, 10))
    runtime.left_to_others += 1
    emit(
        "batch.left_to_others",
        logging.WARNING,
        run=claim.run_id,
        batch=claim.batch_id,
        worker=runtime.name,
        seconds=wait,
        reason=str(why),
    )
    time.sleep(wait)


def _can_others_load(runtime: Runtime, claim: Claim, model: str) -> bool:
    try:
        with runtime.engine.connect() as connection:
            return unloadable.is_for_others(connection, claim.batch_id, runtime.name, model)
    except DBAPIError:
        return False
