"""The work: claim, fetch, predict, commit."""

import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import ClaimLost, RepeatedKey, ScorebeatError, ServiceDown, one_line
from scorebeat.core.events import emit
from scorebeat.db.batch_io.columns import Fetched, Timing
from scorebeat.db.closing import close_run
from scorebeat.db.connect import locks
from scorebeat.db.connect.engine import one_statement
from scorebeat.db.ledger import batches
from scorebeat.db.ledger.batches import BatchId, Claim
from scorebeat.db.ledger.isolation import CHUNK_ROWS, Care
from scorebeat.db.ledger.quarantine import BadRow
from scorebeat.worker.lifecycle import device
from scorebeat.worker.scoring import isolate, load_model
from scorebeat.worker.scoring.attempt import Attempt, bad_row
from scorebeat.worker.scoring.commit import AlreadyThere, Stored, store
from scorebeat.worker.scoring.fetch import fetch
from scorebeat.worker.scoring.recover import is_wait, may_heal, postpone, record_failure
from scorebeat.worker.scoring.runtime import Runtime
from scorebeat.worker.scoring.watchdog import within

AWAY_FOR = 60.0
"""Seconds that a process waits, with a message, until the ledger can be reached, before it drops the message."""
FIRST_LOOK, LONGEST_LOOK = 0.5, 10.0
"""Seconds between two tries, doubled from the first to the longest."""
MOST_CLASHES = 3
"""Times that rows without predictions turn out to have some before the query is to blame."""


class Outcome(StrEnum):
    COMMITTED = "committed"
    SKIPPED = "skipped"
    """Somebody else has it, or it is done: a message too many."""
    LOST = "lost"
    """The claim was lost meanwhile; nothing was written."""
    POSTPONED = "postponed"
    """It waits for a lock, a session that can write or a worker that has its model; the attempt is not counted."""
    UNREACHED = "unreached"
    """The ledger cannot be reached from here: nothing was claimed, and control sends the batch again."""


def score_batch(batch_id: BatchId, w: Runtime) -> Outcome:
    """Score one batch; safe to call again with the same id. Raises what went wrong, after recording it."""
    held = _claim(batch_id, w)
    if isinstance(held, Outcome):
        return held
    try:
        scored = _score(held, w)
    except ClaimLost as error:
        emit("claim.lost", run=held.run_id, batch=batch_id, attempt=held.attempt, worker=w.name, reason=str(error))
        return Outcome.LOST
    except load_model.LeftToOthers as why:
        load_model.leave(w, held, why)
        return Outcome.POSTPONED
    except Exception as error:
        if is_wait(error):
            postpone(w, held, error)
            return Outcome.POSTPONED
        record_failure(w, held, error)
        raise
    emit("batch.committed", run=held.run_id, batch=batch_id, attempt=held.attempt, rows=scored.rows, worker=w.name)
    w.left_to_others = 0
    if held.has_waited:
        _let_others_go(w, held.run_id)
    if scored.was_last:
        _settle(w, held.run_id)
    return Outcome.COMMITTED


def _claim(batch_id: BatchId, w: Runtime) -> Claim | Outcome:
    """The claim, or why there is none.

    A process that does not reach the ledger waits with the one message that it has: it could do nothing for others,
    which stay in the queue for workers that do.
    """
    began, pause, is_away = time.monotonic(), FIRST_LOOK, False
    while True:
        try:
            with one_statement(w.engine) as connection:
                name, ttl = w.name, w.settings.claim_ttl
                held = batches.claim(connection, batch_id, name, ttl, str(device.current()), os.getpid())
        except (DBAPIError, ServiceDown) as error:
            if not may_heal(error):
                raise
            if not is_away:
                emit("database.away", logging.WARNING, worker=w.name, batch=batch_id, reason=one_line(error))
            is_away = True
            if time.monotonic() - began > AWAY_FOR:
                return Outcome.UNREACHED
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_LOOK)
        else:
            if is_away:
                seconds = round(time.monotonic() - began, 1)
                emit("database.back", worker=w.name, batch=batch_id, seconds=seconds)
            return held if held is not None else Outcome.SKIPPED


@dataclass
class _Clock:
    """Where the attempt's time goes, in seconds."""

    fetch: float = 0.0
    predict: float = 0.0


def _score(held: Claim, w: Runtime) -> Stored:
    """Parts of the batch, each fetched, scored and committed, until none is left."""
    job = w.job(held.run_id)
    a = Attempt(held, job, load_model.load(w, held, job.version), w)
    care = Care(held.care)
    if held.probe_is_deadly:
        a.put_probe_aside()
        care = Care.CHUNKS
    # nothing was there when the run was planned, so nothing can be there on a first attempt
    anti_join = not (job.run.set_was_empty and held.attempt == 1)
    clock, total, clashes = _Clock(), 0, 0
    most = max(job.run.job.batch_rows, held.rows_planned) + 1
    while True:
        started = time.perf_counter()
        fetched, bad = fetch(a, most if care is Care.WHOLE else CHUNK_ROWS, anti_join=anti_join)
        clock.fetch += time.perf_counter() - started
        try:
            stored = _row_by_row(a, fetched, bad) if care is Care.ROWS else _part(a, fetched, bad, care, clock)
        except AlreadyThere as error:
            # once more may be another batch with the same rows, of a requeue
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
        # what was committed must not come again; and no more rows than fitted
        anti_join, most = True, min(most, max(CHUNK_ROWS, fetched.rows.num_rows))
        care = Care.CHUNKS if care is Care.ROWS else care


def _part(a: Attempt, fetched: Fetched, bad: tuple[BadRow, ...], care: Care, clock: _Clock) -> Stored:
    """Score and commit what was fetched; rows that the model raises for are quarantined."""
    settings = a.w.settings
    started = time.perf_counter()
    with within(settings.batch_time_limit if care is Care.WHOLE else settings.chunk_time_limit):
        scored = isolate.score(a.predict, fetched.rows, a.alike_from)
    a.require_memory(scored)
    clock.predict += time.perf_counter() - started
    keys = fetched.keys if scored.indices is None else fetched.keys.take(pa.array(scored.indices, pa.int64()))
    bad += tuple(bad_row(fetched.keys, failed.index, failed.error) for failed in scored.failed)
    timing = None if fetched.more else Timing(clock.fetch, clock.predict)
    return store(a, keys, scored.predictions, bad, timing)


def _row_by_row(a: Attempt, fetched: Fetched, bad: tuple[BadRow, ...]) -> Stored:
    """Each row alone, its key written down before: if the process dies, the next attempt knows the row."""
    total = 0
    for i in range(fetched.rows.num_rows):
        a.probe(fetched.keys, i)
        with within(a.w.settings.row_time_limit):
            scored = isolate.score(a.predict, fetched.rows.slice(i, 1))
        a.require_memory(scored)
        failed = tuple(bad_row(fetched.keys, i, f.error) for f in scored.failed)
        keys = fetched.keys.slice(i, 0 if failed else 1)
        total += store(a, keys, scored.predictions, failed, None).rows
    if bad:
        store(a, fetched.keys.slice(0, 0), a.predict(fetched.rows.slice(0, 0)), bad, None)
    a.calm_down()
    return Stored(total)


def _let_others_go(w: Runtime, run_id: int) -> None:
    """The lock is gone. If this fails they come by themselves, a little later."""
    with suppress(DBAPIError), w.engine.begin() as connection:
        batches.let_go(connection, run_id)


def _settle(w: Runtime, run_id: int) -> None:
    """Close the run. Its last batch is committed: what fails here is left to control."""
    try:
        with w.engine.begin() as connection:
            locks.wait_at_most(connection, locks.IN_A_WORKER)
            closed = close_run.settle(connection, run_id, w.settings.max_attempts)
    except (DBAPIError, ScorebeatError) as error:
        emit("settle.left_to_control", run=run_id, reason=one_line(error))
        return
    if closed is not None:
        closed.log()
