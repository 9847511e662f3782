"""What a prediction table has for a job with `changed_at`: the column of that value, and the table of the history."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, select, text, update

from scorebeat.core.errors import NotPermitted
from scorebeat.core.jobs.job import Job
from scorebeat.core.table_names import CHANGED_AT, PREDICTIONS, history_table
from scorebeat.db.connect.sql import ident
from scorebeat.db.predictions import views
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.schema import ownership
from scorebeat.db.schema.tables import prediction_sets as sets
from scorebeat.db.source.changes import ChangeColumn
from scorebeat.db.source.source import Source


def make_room(connection: Connection, source: Source, job: Job, found: PredictionSet) -> None:
    """Make what the job needs and the set lacks. Only the ledger's owner can.

    Predictions of before have NULL in a new column: their rows are scored once more. So have those that stored values
    of another column of the query, or of another type. Raises NotPermitted, or ViewBusy; nothing was changed then.
    """
    if source.changes is None:
        return
    stored = _stored(connection, found)
    if not _is_same(stored, source.changes):
        _as_owner(connection, found, lambda: _make_column(connection, source, found, stored.type))
    if job.keep_history and not _has_history(connection, found):
        _as_owner(connection, found, lambda: _make_history(connection, source, found))


def stores_values(connection: Connection, source: Source, found: PredictionSet) -> bool:
    """Whether the set's table has values of the query's column, in its type, so that they can be compared."""
    return source.changes is None or _is_same(_stored(connection, found), source.changes)


@dataclass(frozen=True)
class _Stored:
    """The column of a set's table: its type, and the query's column whose values it has; None: there is none."""

    type: str | None
    name: str | None


def _stored(connection: Connection, found: PredictionSet) -> _Stored:
    query = text(
        "SELECT (SELECT format_type(atttypid, -1) FROM pg_attribute WHERE attrelid = to_regclass(:table)"
        " AND attname = :name AND NOT attisdropped), changed_at FROM scorebeat.prediction_sets WHERE id = :id"
    )
    return _Stored(*connection.execute(query, {"table": found.table, "name": CHANGED_AT, "id": found.id}).one())


def _is_same(stored: _Stored, changes: ChangeColumn) -> bool:
    return (stored.type, stored.name) == (changes.type, changes.name)


def _has_history(connection: Connection, found: PredictionSet) -> bool:
    """Whether the version has a history. One that scores all rows again takes it over when readers see it."""
    query = select(sets.c.id).where(
        sets.c.job == found.job,
        sets.c.model == found.model,
        sets.c.model_version == found.model_version,
        sets.c.dropped_at.is_(None),
        sets.c.history_table.is_not(None),
    )
    return bool(connection.execute(select(query.exists())).scalar_one())


def _as_owner(connection: Connection, found: PredictionSet, change: Callable[[], None]) -> None:
    if not ownership.is_owner(connection):
        raise NotPermitted(
            f"jobs.{found.job}: {found.table} does not store yet when rows changed. Only the ledger's owner, "
            f"{ownership.owner(connection)}, can change it, which `scorebeat apply` under it does; nothing was changed"
        )

    def act() -> None:
        with ownership.as_owner(connection, f"change {found.table}"):
            change()

    views.switch_with_retries(connection, found.job, act)


def _make_column(connection: Connection, source: Source, found: PredictionSet, stored: str | None) -> None:
    if source.changes is None:
        return
    if stored is not None:
        connection.exec_driver_sql(f"ALTER TABLE {found.table} DROP COLUMN {CHANGED_AT}")
        connection.execute(
            text("UPDATE scorebeat.quarantine SET changed_at = NULL WHERE prediction_set_id = :id"), {"id": found.id}
        )
        if found.history is not None and stored != source.changes.type:  # it keeps values of both types
            connection.exec_driver_sql(
                f"ALTER TABLE {found.history} ALTER COLUMN {CHANGED_AT} TYPE text USING {CHANGED_AT}::text"
            )
    connection.exec_driver_sql(f"ALTER TABLE {found.table} ADD COLUMN {CHANGED_AT} {source.changes.type}")
    connection.execute(update(sets).where(sets.c.id == found.id).values(changed_at=source.changes.name))


def _make_history(connection: Connection, source: Source, found: PredictionSet) -> None:
    """One row a replaced prediction, with its own columns, its version, and when it was replaced."""
    name = history_table(found.table_name)
    table = f"{PREDICTIONS}.{ident(name)}"
    keys = ", ".join(ident(k.name) for k in source.keys)
    connection.exec_driver_sql(f"CREATE TABLE {table} (LIKE {found.table})")
    connection.exec_driver_sql(
        f"ALTER TABLE {table} ADD COLUMN model_version integer NOT NULL DEFAULT {found.model_version:d},"
        " ADD COLUMN replaced_at timestamptz NOT NULL DEFAULT now()"
    )
    connection.exec_driver_sql(f"CREATE INDEX ON {table} ({keys}, replaced_at)")
    connection.execute(update(sets).where(sets.c.id == found.id).values(history_table=name))
