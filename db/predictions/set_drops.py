"""Dropping prediction sets: old generations, those that no run completed, and all sets of a version."""

from collections.abc import Callable, Sequence
from typing import Any

import psycopg2.errors
from sqlalchemy import Connection, Integer, Select, Text, cast, func, select, text, update
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import UsageError
from scorebeat.db.predictions.prediction_sets import COLUMNS, PredictionSet
from scorebeat.db.schema import functions
from scorebeat.db.schema.tables import prediction_sets as sets
from scorebeat.db.schema.tables import quarantine

_IN_USE = (psycopg2.errors.LockNotAvailable, psycopg2.errors.DependentObjectsStillExist)


def require_table(connection: Connection, found: PredictionSet) -> None:
    """Raises UsageError if the set's table is gone: newer generations replaced it, or somebody dropped it."""
    if connection.execute(text("SELECT to_regclass(:table) IS NULL"), {"table": found.table}).scalar_one():
        raise UsageError(
            f"{found.table}, where the predictions of the run go, was dropped; nothing was put back. "
            f"Score the rows again with `scorebeat enqueue {found.job}`."
        )


def drop_old(connection: Connection, current: PredictionSet, keep: int) -> list[str]:
    """Drop the tables of generations older than the newest `keep` complete ones. Returns their names.

    A table that somebody reads now is left for the next time.
    """
    old = connection.execute(
        _before(current).order_by(sets.c.complete_at.is_(None), sets.c.generation.desc()).offset(keep - 1)
    ).all()
    return [row.table_name for row in old if _drop_as_owner(connection, row.id)]


def empty_unshown(connection: Connection, discarded: PredictionSet) -> None:
    """Delete the rows of a generation that was never shown. Its table stays: the next number counts from it."""
    functions.call(connection, "empty_generation", discarded.id)


def drop_unfinished(connection: Connection, current: PredictionSet, keep: int) -> list[str]:
    """Drop generations that no run completed, except the newest `keep` before the current. Returns their names.

    Runs that fail again and again must not fill the disk. A requeue may still complete the newest.
    """
    old = connection.execute(
        _before(current).where(sets.c.complete_at.is_(None)).order_by(sets.c.generation.desc()).offset(keep)
    ).all()
    return [row.table_name for row in old if _drop_as_owner(connection, row.id)]


def _before(current: PredictionSet) -> Select[Any]:
    return select(*COLUMNS).where(
        sets.c.job == current.job,
        sets.c.model == current.model,
        sets.c.model_version == current.model_version,
        sets.c.generation < current.generation,
        sets.c.dropped_at.is_(None),
    )


def drop(connection: Connection, old: PredictionSet) -> bool:
    """Drop the table of an old generation, whose owner we are; False if somebody uses it now."""

    def drop_it() -> bool:
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {_tables(old)}")
        connection.execute(update(sets).where(sets.c.id == old.id).values(dropped_at=func.now()))
        return True

    return _unless_used(connection, drop_it)


def _tables(old: PredictionSet) -> str:
    """The set's table, and that of its history."""
    return f"{old.table}, {old.history}" if old.history is not None else old.table


def _drop_as_owner(connection: Connection, set_id: int) -> bool:
    """`drop` by a function of the ledger's owner, which checks that the generation is old enough; else False."""
    return _unless_used(connection, lambda: bool(functions.call(connection, "drop_generation", set_id)))


def _unless_used(connection: Connection, drop_it: Callable[[], bool]) -> bool:
    """False if somebody reads the table now, or another object depends on it; nothing was changed then."""
    try:
        with connection.begin_nested():
            connection.exec_driver_sql("SET LOCAL lock_timeout = '100ms'")
            return drop_it()
    except DBAPIError as error:
        if not isinstance(error.orig, _IN_USE):
            raise
        return False


def make_room(connection: Connection, job: str) -> None:
    """Free the names and numbers of the job's dropped sets for a later job of the same name."""
    gone = (sets.c.job == job) & sets.c.dropped_at.is_not(None) & (sets.c.generation >= 0)
    name = sets.c.table_name + " dropped " + cast(sets.c.id, Text)
    connection.execute(update(sets).where(gone).values(generation=-1 - cast(sets.c.id, Integer), table_name=name))


def drop_all(connection: Connection, found: Sequence[PredictionSet]) -> None:
    """Drop the sets' tables and their quarantine. Raises UsageError if other objects depend on a table."""
    connection.exec_driver_sql("SET LOCAL lock_timeout = '2s'")
    for old in found:
        try:
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {_tables(old)}")
        except DBAPIError as error:
            if isinstance(error.orig, psycopg2.errors.DependentObjectsStillExist):
                detail = str(error.orig.diag.message_detail).replace("\n", "; ")
                raise UsageError(f"other objects depend on {old.table}: {detail}. Nothing was dropped.") from None
            if isinstance(error.orig, psycopg2.errors.LockNotAvailable):
                raise UsageError(f"{old.table} is being read. Nothing was dropped; try again later.") from None
            raise
    ids = [old.id for old in found]
    connection.execute(quarantine.delete().where(quarantine.c.prediction_set_id.in_(ids)))
    connection.execute(update(sets).where(sets.c.id.in_(ids)).values(dropped_at=func.now()))
