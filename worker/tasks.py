"""The Celery tasks that score a batch or a sample of a job: thin, each calls one function."""

from functools import cache

import adbc_driver_postgresql.dbapi  # noqa: F401 -- before the fork: processes share the libraries that it loads, such as pandas
from celery import shared_task

from scorebeat.core.data_folder import joined
from scorebeat.core.errors import ModelError
from scorebeat.core.queues import CANARY, SCORE
from scorebeat.core.settings import load_settings
from scorebeat.worker.scoring.canary import run_canary
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


@shared_task(name=CANARY)
def canary(canary_id: int) -> bool | None:
    """Score a sample of a job by this worker; the ledger has what was found."""
    with readable_errors():
        return run_canary(canary_id, runtime())
