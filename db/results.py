"""Reading stored predictions: how a job's are addressed, pages of them in key order, and their source rows."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from core.errors import QueryError, UnknownName, UsageError
from core.jobs import Job
from db import failures, jobs, prediction_sets, source, versions
from db.pending import PendingRows
from db.prediction_sets import PredictionSet
from db.source import Source
from db.sql import Key, KeyColumn, after, among, columns, ident, literal, same_key, subquery, texts, value
from db.tables import PREDICTIONS

PATIENCE = "30s"
"""A statement that reads for longer is given up."""


class Form(StrEnum):
    """How values leave PostgreSQL, which writes them itself: no number is rounded on the way."""

    JSON = "json"
    """One column, an object a row."""
    CSV = "csv"
    """A text or None for each column."""


@dataclass(frozen=True)
class Shape:
    """How the published predictions of a job are addressed."""

    job: Job
    keys: tuple[KeyColumn, ...]
    columns: tuple[str, ...]
    """Of the view `predictions.<job>`; empty when there is none yet."""
    stamp: str
    """Another one than the ledger's now: this shape is out of date."""

    @property
    def view(self) -> str:
        return f"{PREDICTIONS}.{ident(self.job.name)}"


@dataclass(frozen=True)
class Page:
    """Some rows in key order."""

    job: str
    names: list[str]
    """Of the columns in CSV."""
    rows: list[tuple[Any, ...]]
    next: Key | None
    """The last key, if there are rows after it."""


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One snapshot in which nothing can be written, with an end to every statement."""
    with engine.connect() as connection:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{PATIENCE}'")
        yield connection


def stamp(job: str | None) -> str:
    """An SQL expression whose value changes when a job comes, goes or changes, or a view is made anew."""
    named = f" AND j.name = {literal(job)}" if job is not None else ""
    return (
        "(SELECT string_agg(concat_ws(' ', j.name, j.applied_at,"
        f" to_regclass(format('{PREDICTIONS}.%I', j.name))::oid), ',' ORDER BY j.name)"
        f" FROM scorebeat.jobs AS j WHERE j.removed_at IS NULL{named})"
    )


def shape(connection: Connection, job: str | None) -> Shape:
    """The shape of this job, or of the only one. Raises UnknownName, or UsageError when there are several."""
    # first: what changes while the rest is read makes the shape out of date, not wrong
    now = connection.exec_driver_sql(f"SELECT {stamp(job)}").scalar_one()
    found = jobs.get(connection, job).job if job is not None else _only_job(connection)
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
        if not failures.is_about_values(error):
            raise
        raise not_a_key(keys, key, error) from None


def require_width(keys: Sequence[KeyColumn], key: Key) -> None:
    if len(key) != len(keys):
        raise UsageError(f"the key has {len(key)} columns; expected {_named(keys)}, as a JSON list of {len(keys)}")


def not_a_key(keys: Sequence[KeyColumn], key: Key, error: DBAPIError) -> UsageError:
    reason = str(error.orig).splitlines()[0].strip()
    return UsageError(f"{list(key)} is not a key, which is {_named(keys)}: {reason}")


def predicted(connection: Connection, shown: Shape, beyond: Key | None, limit: int, form: Form) -> Page:
    """Rows of the view `predictions.<job>`, those after the key `beyond`."""
    if not shown.columns:
        return Page(shown.job.name, [], [], None)
    where = _beyond(connection, shown.keys, "p", beyond)
    what = _object(shown.keys, "p", prediction="row_to_json(p)") if form is Form.JSON else _texts("p", shown.columns)
    found = connection.exec_driver_sql(
        f"SELECT {texts(shown.keys, 'p')}, {what} FROM {shown.view} AS p{where}"
        f" ORDER BY {columns(shown.keys, 'p')} LIMIT {limit + 1:d}"
    )
    return _page(shown, list(shown.columns), found, limit)


def everything(connection: Connection, shown: Shape, beyond: Key | None, limit: int, form: Form) -> Page:
    """Rows of the job's query, each with its published prediction or NULL. Raises QueryError."""
    given = source.read_columns(connection, shown.job)
    keys, names = given.keys, _columns_of(given)
    where = _beyond(connection, keys, "q", beyond)
    rows = f"(SELECT * FROM {subquery(given.query)}{where} ORDER BY {columns(keys, 'q')} LIMIT {limit + 1:d}) AS q"
    outputs = [name for name in shown.columns if name not in shown.job.key]
    scored = f" LEFT JOIN {shown.view} AS p ON {same_key(keys, 'p', 'q')}" if shown.columns else ""
    if form is Form.JSON:
        # a row of NULLs would be an object
        prediction = "CASE WHEN p.batch_id IS NOT NULL THEN row_to_json(p) END" if scored else "NULL"
        what = _object(keys, "q", row="row_to_json(q)", prediction=prediction)
    else:
        what = ", ".join(filter(None, (_texts("q", names), _texts("p", outputs))))
    statement = f"SELECT {texts(keys, 'q')}, {what} FROM {rows}{scored} ORDER BY {columns(keys, 'q')}"
    return _page(shown, names + [f"prediction.{name}" for name in outputs], _run(connection, shown, statement), limit)


def unpredicted(connection: Connection, shown: Shape, beyond: Key | None, limit: int, form: Form) -> Page:
    """Pending rows of the job's query: without a prediction in the published set, and not quarantined in it."""
    given = source.read_columns(connection, shown.job)
    target = published_set(connection, shown.job)
    if beyond is not None:
        require_key(connection, given.keys, beyond)
    pending = PendingRows(
        given,
        target.table if target else "",
        target.id if target else 0,
        where=after(given.keys, "q", beyond) if beyond is not None else None,
    )
    stream = f"{pending.key_stream(anti_join=target is not None)} LIMIT {limit + 1:d}"
    wanted = [tuple(key) for key in _run(connection, shown, stream)]
    names = _columns_of(given)
    if not wanted:
        return Page(shown.job.name, names, [], None)
    what = _object(given.keys, "q", row="row_to_json(q)") if form is Form.JSON else _texts("q", names)
    statement = (
        f"SELECT {texts(given.keys, 'q')}, {what} FROM {subquery(given.query)}"
        f" WHERE {among(given.keys, 'q', wanted)} ORDER BY {columns(given.keys, 'q')}"
    )
    return _page(shown, names, _run(connection, shown, statement), limit)


def published_set(connection: Connection, job: Job) -> PredictionSet | None:
    """The set that readers of the job see; None when its model has no version, or it none of it."""
    try:
        version = versions.of_job(connection, job)
    except UnknownName:
        return None
    return prediction_sets.shown(connection, job, version.version)


def _only_job(connection: Connection) -> Job:
    found = jobs.listing(connection)
    if not found:
        raise UnknownName("there is no job yet: jobs come from jobs.toml by `scorebeat apply`")
    if len(found) > 1:
        raise UsageError(f"there are several jobs: say ?job= and one of {', '.join(row.job.name for row in found)}")
    return found[0].job


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


def _columns_of(given: Source) -> list[str]:
    return [*(k.name for k in given.keys), *given.columns.names]


def _beyond(connection: Connection, keys: Sequence[KeyColumn], alias: str, key: Key | None) -> str:
    if key is None:
        return ""
    require_key(connection, keys, key)
    return f" WHERE {after(keys, alias, key)}"


def _object(keys: Sequence[KeyColumn], alias: str, **parts: str) -> str:
    """An SQL expression of a JSON object: the key as texts, and the parts."""
    values = "".join(f", {literal(name)}, {expression}" for name, expression in parts.items())
    return f"json_build_object('key', json_build_array({texts(keys, alias)}){values})::text"


def _texts(alias: str, names: Sequence[str]) -> str:
    return ", ".join(f"{alias}.{ident(name)}::text" for name in names)


def _run(connection: Connection, shown: Shape, statement: str) -> Any:
    """Rows of the job's own query, which may fail on a row. Raises QueryError."""
    try:
        return connection.exec_driver_sql(statement)
    except DBAPIError as error:
        if not failures.is_about_values(error):
            raise
        reason = str(error.orig).splitlines()[0].strip()
        raise QueryError(f"jobs.{shown.job.name}.query fails in PostgreSQL: {reason}") from None


def _page(shown: Shape, names: list[str], found: Any, limit: int) -> Page:
    rows = [tuple(row) for row in found]
    width = len(shown.job.key)
    last = rows[limit - 1][:width] if len(rows) > limit else None
    return Page(shown.job.name, names, [row[width:] for row in rows[:limit]], last)


def _named(keys: Sequence[KeyColumn]) -> str:
    return ", ".join(f"{k.name} ({k.type})" for k in keys)
