"""The Celery task that scores a batch: thin, it calls one function."""

from functools import cache

import adbc_driver_postgresql.dbapi  # noqa: F401 -- before the fork: processes share the libraries that it loads, such as pandas
from celery import shared_task

from scorebeat.core.data_folder import joined
from scorebeat.core.errors import ModelError
from scorebeat.core.queues import SCORE
from scorebeat.core.settings import load_settings
from scorebeat.worker.scoring.recover import readable_errors
from scorebeat.worker.scoring.runtime import Runtime
from scorebeat.worker.scoring.score import score_batch


@cache
def runtime() -> Runtime:
    """The runtime of this process, made by its first task, after the fork."""
    return Runtime(joined(load_settings()))


# a ModelError has all that is known of the model's fault; a traceback of ours would add nothing
@shared_task(name=SCORE, Request="scorebeat.worker.lifecycle.request:ScoreRequest", throws=(ModelError,))
def score(batch_id: int) -> str:
    """Score a batch. The message has its id; the ledger has everything else."""
    with readable_errors():
        return score_batch(batch_id, runtime()).value
