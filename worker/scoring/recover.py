"""What becomes of an attempt that failed: a pause and another try, or the end of the batch or the run."""

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import adbc_driver_manager
from billiard.exceptions import SoftTimeLimitExceeded
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import (
    ModelError,
    RepeatedKey,
    ScorebeatError,
    ServiceDown,
    SourceChanged,
    UsageError,
    kind,
    one_line,
    shortened,
    text,
)
from scorebeat.core.events import emit
from scorebeat.core.settings import Settings
from scorebeat.core.urls import redact
from scorebeat.db.closing import close_run
from scorebeat.db.connect import database_errors, locks
from scorebeat.db.ledger import batches, quarantine, runs
from scorebeat.db.ledger.batches import Claim
from scorebeat.db.predictions import prediction_sets
from scorebeat.worker.scoring.runtime import Runtime

FIRST_WAIT = timedelta(seconds=1)
LONGEST_WAIT = timedelta(seconds=10)
"""Between two attempts at a batch that only waits: for a lock, or until the database takes writes."""
HELD_BACK = timedelta(seconds=30)
"""The other batches of a run that waits for a lock, unless one of them came through before."""


class BatchFailed(ScorebeatError):
    """An attempt failed with an exception that only its own process knows; the message has its type and words."""


def is_wait(error: Exception) -> bool:
    """The attempt came at the wrong time: a lock was not had, or its session takes no writes. It costs no attempt."""
    return database_errors.is_lock(error) or (
        database_errors.is_read_only(error) and database_errors.is_transient(error)
    )


def may_heal(error: Exception) -> bool:
    """The ledger is away, full, or takes no writes over this session; the statement itself is right."""
    return isinstance(error, ServiceDown) or database_errors.is_transient(error)


def postpone(w: Runtime, held: Claim, error: Exception) -> None:
    """Give the batch back for a while, and the run's other batches too where a lock is in their way.

    If the database takes no writes the claim expires by itself.
    """
    _recover(w, error)
    pause = _doubled(FIRST_WAIT, LONGEST_WAIT, held.attempt)
    try:
        reason = _postpone(w, held, error, pause)
    except DBAPIError as away:
        emit("failure.not_recorded", batch=held.batch_id, attempt=held.attempt, reason=one_line(away.orig))
        return
    emit(
        "batch.postponed",
        logging.WARNING,
        run=held.run_id,
        batch=held.batch_id,
        attempt=held.attempt,
        worker=w.name,
        seconds=pause.total_seconds(),
        reason=reason,
    )


def _postpone(w: Runtime, held: Claim, error: Exception, pause: timedelta) -> str:
    with w.engine.begin() as connection:
        reason = describe(error)
        if database_errors.is_lock(error):
            run = runs.get(connection, held.run_id)
            table = prediction_sets.get(connection, run.prediction_set_id).table_name
            reason = locks.waits_for(connection, f"{run.job.query} {table}")
            batches.hold_back(connection, held.run_id, HELD_BACK)
        batches.postpone(connection, held, reason, pause)
    return reason


def record_failure(w: Runtime, held: Claim, error: Exception) -> None:
    """Write down that the attempt failed. If the database is away the claim expires by itself."""
    _recover(w, error)
    if isinstance(error, SourceChanged):
        w.forget_job(held.run_id)
    try:
        state = _record(w, held, error)
    except DBAPIError as away:
        emit("failure.not_recorded", batch=held.batch_id, attempt=held.attempt, reason=one_line(away.orig))
        return
    emit(
        "batch.failed",
        run=held.run_id,
        batch=held.batch_id,
        attempt=held.attempt,
        worker=w.name,
        state=state,
        error=describe(error),
    )


@contextmanager
def readable_errors() -> Iterator[None]:
    """Errors leave the block as the worker's parent, and Flower, can show them: ours and Python's own as they are.

    A driver's or a model's own exception would reach the parent as an object that nobody there can unpack, and so
    would one of Python's that carries another object; it becomes a BatchFailed with its words, and without its
    traceback where that holds a secret or a row's values.
    """
    try:
        yield
    except (ScorebeatError, SoftTimeLimitExceeded):
        raise
    except Exception as error:
        is_plain = type(error).__module__ == "builtins" and all(
            isinstance(each, str | int | None) for each in error.args
        )
        tells_too_much = database_errors.quotes_values(error) or redact(text(error)) != text(error)
        if is_plain and not tells_too_much:
            raise
        raise BatchFailed(describe(error)) from (None if tells_too_much else error)


def backoff(settings: Settings, attempt: int) -> timedelta:
    """Doubled after each attempt, capped, and jittered so that batches which failed together part."""
    return _doubled(settings.backoff, settings.backoff_cap, attempt)


def _doubled(first: timedelta, cap: timedelta, attempt: int) -> timedelta:
    longest: timedelta = min(cap, first * 2 ** min(attempt - 1, 30))
    jitter: float = random.uniform(0.5, 1.0)  # noqa: S311 -- not a secret
    return longest * jitter


def describe(error: BaseException) -> str:
    """`Type: message`, cut to a sane size."""
    words = database_errors.words(error)
    told = (f"{kind(error)}: {words}" if words else kind(error)) + database_errors.advice(error)
    return shortened(quarantine.plain(told))


def _record(w: Runtime, held: Claim, error: Exception) -> str | None:
    if isinstance(error, RepeatedKey):
        with w.engine.begin() as connection:
            reason = close_run.fail(connection, held.run_id, str(error))
        if reason is not None:
            emit("run.failed", run=held.run_id, reason=reason)
        return "cancelled"
    with w.engine.begin() as connection:
        if _is_final(error):
            return batches.kill(connection, held, describe(error))
        return batches.fail(connection, held, describe(error), backoff(w.settings, held.attempt))


def _is_final(error: Exception) -> bool:
    """No other attempt can mend it: the database or the contract says so."""
    if database_errors.is_database_error(error):
        return not database_errors.is_transient(error)
    return isinstance(error, (ModelError, UsageError)) and not isinstance(error, ServiceDown)


def _recover(w: Runtime, error: Exception) -> None:
    """After any error roll back before anything else; drop a connection that cannot."""
    if database_errors.breaks_connection(error):
        w.drop_data()
        return
    try:
        w.data.rollback()
    except (adbc_driver_manager.Error, UsageError):
        w.drop_data()
