"""The Celery task that scores a batch: thin, it calls one function."""

from functools import cache

import adbc_driver_postgresql.dbapi  # noqa: F401 -- before the fork: processes share what it loads, pandas among it
from celery import shared_task

from scorebeat.core.celery_app import SCORE
from scorebeat.core.errors import ModelError
from scorebeat.core.settings import load_settings
from scorebeat.core.stack import joined
from scorebeat.worker.failure import readable_errors
from scorebeat.worker.runtime import Runtime
from scorebeat.worker.score import score_batch


@cache
def runtime() -> Runtime:
    """One a process: made by its first task, after the fork."""
    return Runtime(joined(load_settings()))


# what is wrong with a model its error says; a traceback of ours would say nothing more
@shared_task(name=SCORE, Request="scorebeat.worker.request:ScoreRequest", throws=(ModelError,))
def score(batch_id: int) -> str:
    """A batch waits to be scored; the message says which, the ledger everything else."""
    with readable_errors():
        return score_batch(batch_id, runtime()).value
