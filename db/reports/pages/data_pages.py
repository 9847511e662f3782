"""Pages of a job's source rows and stored predictions, in the order of the key."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection

from scorebeat.core.errors import QueryError
from scorebeat.db.closing import closed_runs
from scorebeat.db.connect.sql import Key, KeyColumn, after, among, columns, ident, literal, same_key, subquery, texts
from scorebeat.db.connect.user_sql import page
from scorebeat.db.reports.results import Shape, published_set, query_rows, require_key
from scorebeat.db.source import source
from scorebeat.db.source.selection.pending import PendingRows
from scorebeat.db.source.source import Source
from scorebeat.db.source.values.parameter_values import of_no_run

MOST_NAMED = 5


class Form(StrEnum):
    """The form of values, which PostgreSQL itself writes: no number is rounded on the way."""

    JSON = "json"
    """One column, an object a row."""
    CSV = "csv"
    """A text or None for each column."""


@dataclass(frozen=True)
class Page:
    """A page of rows in key order."""

    job: str
    names: list[str]
    """Names of the columns in CSV."""
    rows: list[tuple[Any, ...]]
    next: Key | None
    """The last key, if there are rows after it."""


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
    return _page(shown, list(shown.columns), [tuple(row) for row in found], limit)


def everything(connection: Connection, shown: Shape, beyond: Key | None, limit: int, form: Form) -> Page:
    """Rows of the job's query, each with its published prediction or NULL.

    Raises QueryError, also for a key that is NULL or repeated: a page begins after a key, and would lose rows.
    """
    queried = source.read_columns(connection, shown.job, of_no_run(connection))
    keys, names = queried.keys, _columns_of(queried)
    where = _beyond(connection, keys, "q", beyond)
    rows = f"SELECT * FROM {subquery(queried.query)}{where} ORDER BY {columns(keys, 'q')} LIMIT {limit + 1:d}"
    outputs = [name for name in shown.columns if name not in shown.job.key]
    scored = f" LEFT JOIN {shown.view} AS p ON {same_key(keys, 'p', 'q')}" if shown.columns else ""
    if form is Form.JSON:
        # a row of NULLs would be an object
        prediction = "CASE WHEN p.batch_id IS NOT NULL THEN row_to_json(p) END" if scored else "NULL"
        what = _object(keys, "q", row="row_to_json(q)", prediction=prediction)
    else:
        what = ", ".join(filter(None, (_texts("q", names), _texts("p", outputs))))
    what = f"{_is_bad(keys)}, {texts(keys, 'q')}, {what}"
    found = query_rows(connection, shown, page(connection, rows, what, f"{scored} ORDER BY {columns(keys, 'q')}"))
    _require_good_keys(queried, found)
    if beyond is not None and len(found) <= limit:
        _require_no_null_left(connection, shown, queried)
    names += [f"prediction.{name}" for name in outputs]
    return _page(shown, names, [row[1:] for row in found], limit)


def unpredicted(connection: Connection, shown: Shape, beyond: Key | None, limit: int, form: Form) -> Page:
    """Pending rows of the job's query: without a prediction in the published set, and not quarantined in it.

    Raises QueryError as `everything` does.
    """
    queried = source.read_columns(connection, shown.job, of_no_run(connection))
    target = published_set(connection, shown.job)
    if beyond is not None:
        require_key(connection, queried.keys, beyond)
    pending = PendingRows(
        replace(queried, changes=None),  # a row that changed has a prediction
        target.table if target else "",
        target.id if target else 0,
        where=after(queried.keys, "q", beyond) if beyond is not None else None,
        again=closed_runs.with_rows(connection, target.id) if target else (),
    )
    stream = f"{pending.key_stream(anti_join=target is not None)} LIMIT {limit + 1:d}"
    wanted = query_rows(connection, shown, stream)
    _require_good_keys(queried, [(True, *key) for key in wanted if None in key])
    if beyond is not None and len(wanted) <= limit:
        _require_no_null_left(connection, shown, queried)
    names = _columns_of(queried)
    if not wanted:
        return Page(shown.job.name, names, [], None)
    what = _object(queried.keys, "q", row="row_to_json(q)") if form is Form.JSON else _texts("q", names)
    rows = f"SELECT * FROM {subquery(queried.query)} WHERE {among(queried.keys, 'q', wanted)}"
    what = f"{_is_bad(queried.keys)}, {texts(queried.keys, 'q')}, {what}"
    found = query_rows(connection, shown, page(connection, rows, what, f" ORDER BY {columns(queried.keys, 'q')}"))
    _require_good_keys(queried, found)
    return _page(shown, names, [row[1:] for row in found], limit)


def _columns_of(queried: Source) -> list[str]:
    return [*(k.name for k in queried.keys), *queried.columns.names]


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


def _is_null(keys: Sequence[KeyColumn]) -> str:
    return " OR ".join(f"q.{ident(key.name)} IS NULL" for key in keys)


def _is_bad(keys: Sequence[KeyColumn]) -> str:
    """SQL condition over the rows of a page: the row's key is NULL or repeated."""
    return f"(count(*) OVER (PARTITION BY {columns(keys, 'q')}) > 1 OR {_is_null(keys)})"


def _require_good_keys(queried: Source, found: Sequence[tuple[Any, ...]]) -> None:
    """Raises QueryError naming keys that are NULL or repeated. A row begins with `_is_bad`, followed by its key.

    A page reads one row more than it shows, so a key that repeats just beyond it is found.
    """
    bad = [row[1 : 1 + len(queried.keys)] for row in found if row[0]]
    if bad:
        written = [", ".join("NULL" if part is None else part for part in key) for key in bad[:MOST_NAMED]]
        raise QueryError(
            f"jobs.{queried.job}.key must be unique and not NULL; the query returns"
            f" {', '.join(f'({key})' for key in dict.fromkeys(written))} more than once, or without a value."
            " A page begins after a key, so rows would be lost: nothing was read on"
        )


def _require_no_null_left(connection: Connection, shown: Shape, queried: Source) -> None:
    """Raises QueryError for a key that is NULL. Pages after the first contain none, so the last page checks."""
    if not source.is_unique(connection, queried):
        keys, query = queried.keys, subquery(queried.query)
        nulls = f"SELECT true, {texts(keys, 'q')} FROM {query} WHERE {_is_null(keys)} LIMIT 1"
        _require_good_keys(queried, query_rows(connection, shown, nulls))


def _page(shown: Shape, names: list[str], rows: Sequence[tuple[Any, ...]], limit: int) -> Page:
    width = len(shown.job.key)
    last = rows[limit - 1][:width] if len(rows) > limit else None
    return Page(shown.job.name, names, [row[width:] for row in rows[:limit]], last)
