"""Scores a batch: claim, fetch, predict, commit."""

import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

import pyarrow as pa
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import ClaimLost, RepeatedKey, ScorebeatError, ServiceDown, one_line
from scorebeat.core.events import emit
from scorebeat.core.states import AttemptEnd
from scorebeat.db.batch_io.columns import Fetched, Timing
from scorebeat.db.closing import keyed_runs
from scorebeat.db.connect.engine import one_statement
from scorebeat.db.ledger import batches
from scorebeat.db.ledger.batches import BatchId, Claim
from scorebeat.db.ledger.failures import quarantine
from scorebeat.db.ledger.failures.isolation import CHUNK_ROWS, Care
from scorebeat.db.ledger.failures.quarantine import BadRow
from scorebeat.db.records import usage
from scorebeat.worker.lifecycle.devices import device
from scorebeat.worker.scoring import load_model, predict
from scorebeat.worker.scoring.attempt import Attempt
from scorebeat.worker.scoring.commit import AlreadyThere, Stored, store
from scorebeat.worker.scoring.fetch import fetch
from scorebeat.worker.scoring.isolate import predict_isolating_failures
from scorebeat.worker.scoring.profile import Profiler
from scorebeat.worker.scoring.recover import is_wait, may_heal, postpone, record_failure
from scorebeat.worker.scoring.refused_rows.bad_rows import bad_row
from scorebeat.worker.scoring.row_by_row import quarantine_deadly_row, score_row_by_row
from scorebeat.worker.scoring.runtime import Runtime
from scorebeat.worker.scoring.watchdog import within

AWAY_FOR = 60.0
"""Seconds that a process waits for a ledger that cannot be reached before it drops its message."""
FIRST_LOOK, LONGEST_LOOK = 0.5, 10.0
"""Seconds between two tries, doubled from the first to the longest."""
KEY_ROWS = 10_000_000
"""A process that scores builds the key of a generation of so many rows itself, in some seconds, when it has committed
the last batch. A larger one is left to the processes that plan: its time limit is for batches."""
MOST_CLASHES = 3
"""Times that rows read as pending may turn out to have predictions before the query is to blame."""


class Outcome(StrEnum):
    COMMITTED = "committed"
    SKIPPED = "skipped"
    """The batch is done, or another worker has it: the message was a duplicate."""
    LOST = "lost"
    """The claim was lost during the attempt; nothing was written."""
    POSTPONED = "postponed"
    """The batch waits for a lock, a session that can write or a worker that can load its model; not counted."""
    UNREACHED = "unreached"
    """The ledger cannot be reached: nothing was claimed, and control sends the batch again."""


def score_batch(batch_id: BatchId, runtime: Runtime) -> Outcome:
    """Score one batch; safe to call again with the same id. Raises the error of the attempt after recording it."""
    claim = _claim(batch_id, runtime)
    if isinstance(claim, Outcome):
        return claim
    times = _Times()
    try:
        scored = _score_parts(claim, runtime, times)
    except ClaimLost as error:
        emit(
            "claim.lost",
            run=claim.run_id,
            batch=batch_id,
            attempt=claim.attempt,
            worker=runtime.name,
            reason=str(error),
        )
        _note_lost(runtime, claim.run_id, times.cpu)
        return Outcome.LOST
    except load_model.LeftToOthers as why:
        load_model.leave(runtime, claim, why, times.cpu)
        return Outcome.POSTPONED
    except Exception as error:
        if is_wait(error):
            postpone(runtime, claim, error, times.cpu)
            return Outcome.POSTPONED
        record_failure(runtime, claim, error, times.cpu)
        raise
    emit(
        "batch.committed",
        run=claim.run_id,
        batch=batch_id,
        attempt=claim.attempt,
        rows=scored.rows,
        worker=runtime.name,
    )
    runtime.left_to_others = 0
    if claim.has_waited:
        _release_held_batches(runtime, claim.run_id)
    if scored.was_last:
        _settle(runtime, claim.run_id)
    return Outcome.COMMITTED


def _claim(batch_id: BatchId, runtime: Runtime) -> Claim | Outcome:
    """The claim, or why there is none.

    A process that cannot reach the ledger waits with the one message that it has. It could not handle other messages,
    which stay in the queue for workers that can.
    """
    began, pause, is_away = time.monotonic(), FIRST_LOOK, False
    while True:
        try:
            with one_statement(runtime.engine) as connection:
                name, ttl = runtime.name, runtime.settings.claim_ttl
                claim = batches.claim(connection, batch_id, name, ttl, str(device.current()), os.getpid())
        except (DBAPIError, ServiceDown) as error:
            if not may_heal(error):
                raise
            if not is_away:
                emit("database.away", logging.WARNING, worker=runtime.name, batch=batch_id, reason=one_line(error))
            is_away = True
            if time.monotonic() - began > AWAY_FOR:
                return Outcome.UNREACHED
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_LOOK)
        else:
            if is_away:
                seconds = round(time.monotonic() - began, 1)
                emit("database.back", worker=runtime.name, batch=batch_id, seconds=seconds)
            return claim if claim is not None else Outcome.SKIPPED


@dataclass
class _Times:
    """Seconds that the parts of the attempt took."""

    fetch: float = 0.0
    predict: float = 0.0
    cpu_before: float = field(default_factory=time.process_time)
    """CPU time of this process, all its threads, when the attempt began."""

    @property
    def cpu(self) -> float:
        return time.process_time() - self.cpu_before


def _score_parts(claim: Claim, runtime: Runtime, times: _Times) -> Stored:
    """Parts of the batch, each fetched, scored and committed, until none is left."""
    job = runtime.job(claim.run_id)
    attempt = Attempt(claim, job, load_model.load(runtime, claim, job.version), runtime)
    care = Care(claim.care)
    if claim.probe_is_deadly:
        quarantine_deadly_row(attempt)
        care = Care.CHUNKS
    # the set was empty when the run was planned, so no row has a prediction on a first attempt; without a key of the
    # table nobody else stored rows of the batch either
    is_untouched = claim.attempt == 1 or (job.target.unbuilt_key is not None and not claim.has_progress)
    anti_join = not (job.run.set_was_empty and is_untouched)
    profiler, total, clashes = Profiler(attempt), 0, 0
    most = max(job.run.job.batch_rows, claim.rows_planned) + 1
    while True:
        started = time.perf_counter()
        fetched, bad = fetch(attempt, most if care is Care.WHOLE else CHUNK_ROWS, anti_join=anti_join)
        times.fetch += time.perf_counter() - started
        try:
            stored = (
                score_row_by_row(attempt, fetched, bad, profiler)
                if care is Care.ROWS
                else _score_part(attempt, fetched, bad, care, times, profiler)
            )
        except AlreadyThere as error:
            # one more clash may come from another batch with the same rows, of a requeue
            clashes += anti_join
            if clashes > MOST_CLASHES:
                raise RepeatedKey(
                    f"jobs.{job.run.job.name}: the query gives a key twice: {error}. "
                    "The key must be unique; the run is failed, what is committed stays."
                ) from None
            anti_join = True
            continue
        total += stored.rows
        if not fetched.more and care is not Care.ROWS:
            return Stored(total, stored.was_last)
        # leave out rows that are committed, and fetch no more rows than fitted
        anti_join, most = True, min(most, max(CHUNK_ROWS, fetched.rows.num_rows))
        care = Care.CHUNKS if care is Care.ROWS else care


def _score_part(
    attempt: Attempt, fetched: Fetched, bad: tuple[BadRow, ...], care: Care, times: _Times, profiler: Profiler
) -> Stored:
    """Score and commit what was fetched; rows that the model raises for are quarantined."""
    settings = attempt.runtime.settings
    started = time.perf_counter()
    with within(settings.batch_time_limit if care is Care.WHOLE else settings.chunk_time_limit):
        scored = predict_isolating_failures(partial(predict.predict_rows, attempt), fetched.rows, attempt.alike_from)
    predict.require_memory(attempt.claim, scored)
    times.predict += time.perf_counter() - started
    profiler.look_at(fetched.rows, scored)
    keys = fetched.keys if scored.indices is None else fetched.keys.take(pa.array(scored.indices, pa.int64()))
    bad += tuple(bad_row(quarantine.row_id(fetched.keys, row.index), row.error) for row in scored.failed)
    timing = None if fetched.more else Timing(times.fetch, times.predict, times.cpu_before, profiler.stored())
    return store(attempt, keys, scored.predictions, bad, timing)


def _note_lost(runtime: Runtime, run_id: int, cpu: float) -> None:
    """Add the CPU time of an attempt that lost its claim; its other time was counted when the claim was taken."""
    with suppress(DBAPIError), runtime.engine.begin() as connection:
        usage.add(connection, run_id, AttemptEnd.LOST, 0.0, cpu)


def _release_held_batches(runtime: Runtime, run_id: int) -> None:
    """The lock is gone: the run's other batches need not wait. If this fails, they become due by themselves, later."""
    with suppress(DBAPIError), runtime.engine.begin() as connection:
        batches.let_go(connection, run_id)


def _settle(runtime: Runtime, run_id: int) -> None:
    """Close the run, whose last batch is committed. If this fails, control does it."""
    try:
        closed = keyed_runs.settle(runtime.engine, run_id, runtime.settings.max_attempts, most=KEY_ROWS)
    except (DBAPIError, ScorebeatError) as error:
        emit("settle.left_to_control", run=run_id, reason=one_line(error))
        return
    if closed is not None:
        closed.log()
