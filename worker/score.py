"""The work: claim, fetch, predict, commit."""

import time
from enum import StrEnum

import pyarrow as pa
from sqlalchemy.exc import DBAPIError

from core.errors import ClaimLost, RepeatedKey, ScorebeatError
from core.events import emit
from db import batches, columns, settling
from db.batches import BatchId, Claim
from db.columns import Fetched, Timing
from db.pending import PendingRows
from models import scoring
from worker.failure import record_failure
from worker.runtime import Job, Runtime


class Outcome(StrEnum):
    COMMITTED = "committed"
    SKIPPED = "skipped"
    """Somebody else has it, or it is done: a message too many."""
    LOST = "lost"
    """The claim was lost meanwhile; nothing was written."""


def score_batch(batch_id: BatchId, w: Runtime) -> Outcome:
    """Score one batch; safe to call again with the same id. Raises what went wrong, after recording it."""
    with w.engine.begin() as connection:
        held = batches.claim(connection, batch_id, w.name, w.settings.claim_ttl)
    if held is None:
        return Outcome.SKIPPED
    try:
        rows = _score(held, w)
    except ClaimLost as error:
        emit("claim.lost", batch=batch_id, attempt=held.attempt, worker=w.name, reason=str(error))
        return Outcome.LOST
    except Exception as error:
        record_failure(w, held, error)
        raise
    emit("batch.committed", run=held.run_id, batch=batch_id, attempt=held.attempt, rows=rows, worker=w.name)
    _settle(w, held.run_id)
    return Outcome.COMMITTED


def _score(held: Claim, w: Runtime) -> int:
    """Parts of the batch, each fetched, scored and committed, until the range is empty; answers the rows."""
    job = w.job(held.run_id)
    model = w.model(job.version)
    # nothing was there when the run was planned, so nothing can be there on a first attempt
    anti_join = not (job.run.set_was_empty and held.attempt == 1)
    fetching = predicting = 0.0
    total, limit = 0, max(job.run.job.batch_rows, held.rows_planned) + 1
    while True:
        started = time.perf_counter()
        fetched = _fetch(held, job, w, anti_join=anti_join, limit=limit)
        fetching += time.perf_counter() - started
        started = time.perf_counter()
        scored = scoring.predict(model, job.binding.apply(fetched.rows))  # no transaction is open here
        predicting += time.perf_counter() - started
        timing = None if fetched.more else Timing(fetching, predicting)
        if not _commit(held, job, w, fetched, scored, timing, anti_join=anti_join):
            anti_join = True
            continue
        total += int(fetched.rows.num_rows)
        if not fetched.more:
            return total
        # what was committed must not come again; and no more rows than fitted
        anti_join, limit = True, max(1, fetched.rows.num_rows)


def _fetch(held: Claim, job: Job, w: Runtime, *, anti_join: bool, limit: int) -> Fetched:
    quarantined = anti_join and w.has_quarantine(job.target.id)
    rows = PendingRows(job.source, job.target.table, job.target.id, job.run.selection.where, quarantined)
    statement = rows.batch(job.binding.columns, held.span, limit, anti_join=anti_join, listed=held.keys)
    return columns.fetch(w.data, statement, job.source, limit, job.run.job.batch_bytes)


def _commit(
    held: Claim,
    job: Job,
    w: Runtime,
    fetched: Fetched,
    scored: pa.RecordBatch,
    timing: Timing | None,
    *,
    anti_join: bool,
) -> bool:
    """Commit a part. False when rows of it were there already and it is to be fetched again without them."""
    table = columns.to_ingest(w.data, job.target, fetched.keys, scored, held.batch_id)
    try:
        columns.commit(w.data, held, job.target, table, timing)
    except columns.DRIVER_ERRORS as error:
        if not columns.is_repeated_key(error):
            raise
        w.data.rollback()
        if anti_join:
            raise RepeatedKey(
                f"jobs.{job.run.job.name}: the query gives a key twice: {columns.detail(error)}. "
                "The key must be unique; the run is failed, what is committed stays."
            ) from None
        return False
    return True


def _settle(w: Runtime, run_id: int) -> None:
    """Close the run if this was its last batch. The batch is committed: what fails here is left to control."""
    try:
        with w.engine.begin() as connection:
            state = settling.settle_if_done(connection, run_id)
    except (DBAPIError, ScorebeatError) as error:
        emit("settle.left_to_control", run=run_id, reason=" ".join(str(error).split()))
        return
    if state is not None:
        emit("run.finished", run=run_id, state=state.value)
