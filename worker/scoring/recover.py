"""What happens after an attempt failed: another attempt later, or the end of the batch or the run."""

import logging
import random
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import adbc_driver_manager
from billiard.exceptions import SoftTimeLimitExceeded
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import (
    LONGEST,
    ModelError,
    RepeatedKey,
    ScorebeatError,
    ServiceDown,
    SnapshotLost,
    SourceChanged,
    StoredTwice,
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
from scorebeat.db.ledger import batches, next_step, runs
from scorebeat.db.ledger.batches import Claim
from scorebeat.db.ledger.failures import quarantine
from scorebeat.db.predictions import prediction_sets
from scorebeat.worker.scoring.runtime import Runtime

FIRST_WAIT = timedelta(seconds=1)
LONGEST_WAIT = timedelta(seconds=10)
"""Time between two attempts at a batch that waits for a lock, or until the database takes writes."""
LONGEST_TRACEBACK = 20_000
"""Characters of a traceback that is logged; one through scikit-learn has some thousands."""
HELD_BACK = timedelta(seconds=30)
"""Time that the other batches of a run wait if one waits for a lock; a batch that commits ends the wait."""


class BatchFailed(ScorebeatError):
    """An attempt failed with an exception that only its own process knows; the message has its type and message."""


def is_wait(error: Exception) -> bool:
    """Whether the attempt could not get a lock, or its session takes no writes: such an attempt is not counted."""
    return database_errors.is_lock(error) or (
        database_errors.is_read_only(error) and database_errors.is_transient(error)
    )


def may_heal(error: Exception) -> bool:
    """Whether the ledger cannot be reached, is full, or takes no writes in this session; the statement is right."""
    return isinstance(error, ServiceDown) or database_errors.is_transient(error)


def postpone(runtime: Runtime, claim: Claim, error: Exception, cpu: float) -> None:
    """Make the batch pending again after a pause; if a lock blocks it, the run's other batches wait as well.

    If the database takes no writes, the claim expires by itself.
    """
    _roll_back(runtime, error)
    pause = _doubled(FIRST_WAIT, LONGEST_WAIT, claim.attempt)
    try:
        with runtime.engine.begin() as connection:
            reason = describe(error)
            if database_errors.is_lock(error):
                run = runs.get(connection, claim.run_id)
                table = prediction_sets.get(connection, run.prediction_set_id).table_name
                reason = locks.waits_for(connection, f"{run.job.query} {table}")
                batches.hold_back(connection, claim.run_id, HELD_BACK)
            batches.postpone(connection, claim, reason, pause, cpu)
    except DBAPIError as unreachable:
        emit("failure.not_recorded", batch=claim.batch_id, attempt=claim.attempt, reason=one_line(unreachable.orig))
        return
    emit(
        "batch.postponed",
        logging.WARNING,
        run=claim.run_id,
        batch=claim.batch_id,
        attempt=claim.attempt,
        worker=runtime.name,
        seconds=pause.total_seconds(),
        reason=reason,
    )


def record_failure(runtime: Runtime, claim: Claim, error: Exception, cpu: float = 0.0) -> None:
    """Record that the attempt failed. If the database cannot be reached, the claim expires by itself."""
    _roll_back(runtime, error)
    if isinstance(error, SourceChanged):
        runtime.forget_job(claim.run_id)
    try:
        state = _record(runtime, claim, error, cpu)
    except DBAPIError as unreachable:
        emit("failure.not_recorded", batch=claim.batch_id, attempt=claim.attempt, reason=one_line(unreachable.orig))
        return
    emit(
        "batch.failed",
        run=claim.run_id,
        batch=claim.batch_id,
        attempt=claim.attempt,
        worker=runtime.name,
        state=state,
        error=describe(error),
    )


@contextmanager
def readable_errors() -> Iterator[None]:
    """Errors leave the block in a form that the worker's parent and Flower can show: ours and Python's own as they are.

    The parent cannot unpickle an exception of a driver or a model, nor one of Python's that holds another object. Such
    an exception becomes a BatchFailed with its message, and without its traceback if that holds a secret, a row's
    values, or is too long for a log.
    """
    try:
        yield
    except (ScorebeatError, SoftTimeLimitExceeded):
        raise
    except Exception as error:
        is_plain = type(error).__module__ == "builtins" and all(
            isinstance(each, str | int | None) for each in error.args
        )
        is_hidden = database_errors.quotes_values(error) or len(text(error)) > LONGEST or not _is_fit_to_print(error)
        if is_plain and not is_hidden:
            raise
        raise BatchFailed(describe(error)) from (None if is_hidden else error)


def _is_fit_to_print(error: BaseException) -> bool:
    """Whether its traceback, with all errors before it, can be printed, is no book and holds no secret."""
    try:
        printed = "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 -- code of the error's own class, which may raise anything
        return False
    return len(printed) <= LONGEST_TRACEBACK and redact(printed) == printed


def backoff(settings: Settings, attempt: int) -> timedelta:
    """Doubled after each attempt, capped, with jitter: batches that failed together are not retried together."""
    return _doubled(settings.backoff, settings.backoff_cap, attempt)


def _doubled(first: timedelta, cap: timedelta, attempt: int) -> timedelta:
    longest: timedelta = min(cap, first * 2 ** min(attempt - 1, 30))
    jitter: float = random.uniform(0.5, 1.0)  # noqa: S311 -- not a secret
    return longest * jitter


def describe(error: BaseException) -> str:
    """`Type: message`, cut to a sane size."""
    words = database_errors.message(error)
    message = (f"{kind(error)}: {words}" if words else kind(error)) + database_errors.advice(error)
    return shortened(quarantine.plain(message))


def _record(runtime: Runtime, claim: Claim, error: Exception, cpu: float) -> str | None:
    if isinstance(error, RepeatedKey | StoredTwice):
        command = next_step.by_another_run if isinstance(error, StoredTwice) else next_step.of
        with runtime.engine.begin() as connection:
            reason = close_run.fail(connection, claim.run_id, str(error), command)
        if reason is not None:
            emit("run.failed", run=claim.run_id, reason=reason)
        return "cancelled"
    with runtime.engine.begin() as connection:
        if _is_final(error):
            return batches.kill(connection, claim, describe(error), cpu)
        return batches.fail(connection, claim, describe(error), backoff(runtime.settings, claim.attempt), cpu)


def _is_final(error: Exception) -> bool:
    """Whether no other attempt can succeed, by the database's error or by the contract."""
    if database_errors.is_database_error(error):
        return not database_errors.is_transient(error)
    return isinstance(error, (ModelError, UsageError, SnapshotLost)) and not isinstance(error, ServiceDown)


def _roll_back(runtime: Runtime, error: Exception) -> None:
    """Roll back; drop a connection that cannot. After any error this comes before anything else."""
    if database_errors.breaks_connection(error):
        runtime.drop_data()
        return
    try:
        runtime.data.rollback()
    except (adbc_driver_manager.Error, UsageError):
        runtime.drop_data()
