"""How a job's stored predictions are addressed, and the snapshot in which they are read."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import QueryError, UnknownName, UsageError
from scorebeat.core.jobs.job import Job
from scorebeat.core.table_names import PREDICTIONS
from scorebeat.db.connect import database_errors, read_only, user_sql
from scorebeat.db.connect.sql import Key, KeyColumn, ident, literal, value
from scorebeat.db.ledger import jobs, model_versions
from scorebeat.db.predictions import prediction_sets
from scorebeat.db.predictions.prediction_sets import PredictionSet

PATIENCE = "30s"
"""A statement that takes longer is cancelled."""


@dataclass(frozen=True)
class Shape:
    """The job, key and columns of published predictions, by which they are addressed."""

    job: Job
    keys: tuple[KeyColumn, ...]
    columns: tuple[str, ...]
    """Columns of the view `predictions.<job>`; empty if there is none yet."""
    stamp: str
    """If it differs from the ledger's current stamp, this shape is out of date."""

    @property
    def view(self) -> str:
        return f"{PREDICTIONS}.{ident(self.job.name)}"


def reading(engine: Engine) -> AbstractContextManager[Connection]:
    """The snapshot in which the ledger, predictions and the user's queries are read."""
    return read_only.snapshot(engine, PATIENCE, **read_only.FOR_A_QUERY)


def stamp(job: str | None) -> str:
    """An SQL expression whose value changes when a job comes, goes or changes, or a view is made again."""
    named = f" AND j.name = {literal(job)}" if job is not None else ""
    return (
        "(SELECT string_agg(concat_ws(' ', j.name, j.applied_at,"
        f" to_regclass(format('{PREDICTIONS}.%I', j.name))::oid), ',' ORDER BY j.name)"
        f" FROM scorebeat.jobs AS j WHERE j.removed_at IS NULL{named})"
    )


def shape(connection: Connection, job: str | None) -> Shape:
    """The shape of this job, or of the only one. Raises UnknownName, or UsageError if there are several."""
    # the stamp is read first: a change while the rest is read makes the shape out of date, not wrong
    now = connection.exec_driver_sql(f"SELECT {stamp(job)}").scalar_one()
    if job is not None:
        found = jobs.get(connection, job).job
    else:
        listed = jobs.listing(connection)
        if not listed:
            raise UnknownName("there is no job yet: jobs come from jobs.toml by `scorebeat apply`")
        if len(listed) > 1:
            names = ", ".join(row.job.name for row in listed)
            raise UsageError(f"there are several jobs: add ?job= and one of {names}")
        found = listed[0].job
    types = _view_columns(connection, found.name)
    keys = tuple(KeyColumn(name, types[name]) for name in found.key if name in types)
    return Shape(found, keys, tuple(types) if len(keys) == len(found.key) else (), str(now))


def require_key(connection: Connection, keys: Sequence[KeyColumn], key: Key) -> None:
    """Raises UsageError unless the texts are a key of these columns."""
    require_width(keys, key)
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"SELECT {value(keys, key)}")
    except DBAPIError as error:
        if not database_errors.is_about_values(error):
            raise
        raise not_a_key(keys, key, error) from None


def require_width(keys: Sequence[KeyColumn], key: Key) -> None:
    if len(key) != len(keys):
        raise UsageError(f"the key has {len(key)} columns; expected {_named(keys)}, as a JSON list of {len(keys)}")


def not_a_key(keys: Sequence[KeyColumn], key: Key, error: DBAPIError) -> UsageError:
    reason = str(error.orig).splitlines()[0].strip()  # it quotes only the caller's own key
    return UsageError(f"{list(key)} is not a key, which is {_named(keys)}: {reason}")


def query_rows(connection: Connection, shown: Shape, statement: str) -> list[tuple[Any, ...]]:
    """Rows of a statement with the job's own query, which may fail on a row. Raises QueryError."""
    try:
        return user_sql.rows(connection, statement)
    except DBAPIError as error:
        if not database_errors.is_about_values(error):
            raise
        reason = database_errors.message(error).splitlines()[0].strip()
        raise QueryError(f"jobs.{shown.job.name}.query fails in PostgreSQL: {reason}") from None


def published_set(connection: Connection, job: Job) -> PredictionSet | None:
    """The set that readers of the job see; None if the model has no version, or the job no set of it."""
    try:
        version = model_versions.of_job(connection, job)
    except UnknownName:
        return None
    return prediction_sets.shown(connection, job, version.version)


def _view_columns(connection: Connection, job: str) -> dict[str, str]:
    """Name to type, in column order; empty without a view."""
    rows = connection.execute(
        text(
            "SELECT a.attname, format_type(a.atttypid, -1) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
            " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = :schema AND c.relname = :job"
            " AND c.relkind = 'v' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
        ),
        {"schema": PREDICTIONS, "job": job},
    )
    return {row[0]: row[1] for row in rows}


def _named(keys: Sequence[KeyColumn]) -> str:
    return ", ".join(f"{k.name} ({k.type})" for k in keys)
