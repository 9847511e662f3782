"""Runs that have nothing left but the primary key of their generation: it is built outside the closing of the run.

A large table takes minutes, and no row of the ledger but that of the prediction set is locked meanwhile. Whoever has it
locked builds the key. If it dies, PostgreSQL undoes what it did, and the next control tick lets another begin.
"""

from contextlib import suppress
from datetime import timedelta

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import KeyBeingBuilt
from scorebeat.db.closing import close_run
from scorebeat.db.closing.close_run import BegunAgain, Settled
from scorebeat.db.closing.run_ends import is_settled_sql
from scorebeat.db.connect import database_errors, locks
from scorebeat.db.ledger import runs
from scorebeat.db.predictions import generation_keys, prediction_sets
from scorebeat.db.predictions.prediction_sets import PredictionSet

RETRY_AFTER = timedelta(seconds=30)
"""The pause after a failure, such as a full disk."""
LOCK_PAUSE = timedelta(seconds=3)
"""The pause after a wait for a lock, which somebody who writes to the table holds."""

_WAITING = (
    "SELECT r.id FROM scorebeat.runs r JOIN scorebeat.prediction_sets s ON s.id = r.prediction_set_id"
    f" WHERE r.state = 'running' AND {generation_keys.IS_MISSING} AND {is_settled_sql('r.id')}"
)


def settle(engine: Engine, run_id: int, attempts: int, most: int | None = None) -> Settled | BegunAgain | None:
    """`close_run.settle`, after the key was built if the run lacks only that. It may take minutes.

    None also if somebody else builds the key now, or if the run scored more than `most` rows. Raises StoredTwice, and
    what `close_run.settle` raises; an error that may pass is recorded with the run, for `due` and the reports.
    """
    closed = settle_soon(engine, run_id, attempts)
    if closed is None and _build(engine, run_id, most):
        closed = settle_soon(engine, run_id, attempts)
    return closed


def settle_soon(engine: Engine, run_id: int, attempts: int) -> Settled | BegunAgain | None:
    """`close_run.settle` that waits briefly for a lock, and builds no key: None also if the run lacks that."""
    with engine.begin() as connection:
        locks.wait_at_most(connection, locks.IN_A_WORKER)  # for its predictions or view: the next tick comes soon
        return close_run.settle(connection, run_id, attempts)


def due(connection: Connection) -> list[int]:
    """Runs that lack only their key, and whose key may be tried now."""
    is_due = "coalesce(r.key_retry_at <= clock_timestamp(), true)"
    return list(connection.execute(text(f"{_WAITING} AND {is_due} ORDER BY r.id")).scalars())


def _build(engine: Engine, run_id: int, most: int | None) -> bool:
    """Whether the run lacked only its key, and has it now."""
    rows = "(SELECT sum(rows_scored) FROM scorebeat.batches WHERE run_id = r.id)"
    waiting = text(f"{_WAITING} AND r.id = :id AND coalesce({rows} <= :most, true)")
    with engine.connect() as connection:
        if connection.execute(waiting, {"id": run_id, "most": most}).one_or_none() is None:
            return False
        target = prediction_sets.get(connection, runs.get(connection, run_id).prediction_set_id)
    try:
        with engine.begin() as connection:
            generation_keys.build(connection, target)
    except KeyBeingBuilt:
        return False
    except DBAPIError as error:
        if database_errors.passes(error):
            with suppress(DBAPIError):  # the first error counts
                _note_failure(engine, run_id, target, error)
        raise
    return True


def _note_failure(engine: Engine, run_id: int, target: PredictionSet, error: DBAPIError) -> None:
    """Record why the key could not be built; it is tried again after a pause."""
    is_lock = database_errors.is_lock(error)
    with engine.begin() as connection:
        why = locks.waits_for(connection, target.table_name) if is_lock else database_errors.message_with_advice(error)
        connection.execute(
            text(
                "UPDATE scorebeat.runs SET key_error = :error, key_retry_at = clock_timestamp() + :pause"
                " WHERE id = :id AND state = 'running'"
            ),
            {"id": run_id, "error": why, "pause": LOCK_PAUSE if is_lock else RETRY_AFTER},
        )
