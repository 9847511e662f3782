"""A job's query as PostgreSQL sees it: its columns, its key, and whether it can be read batch by batch."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import adbc_driver_manager
import pyarrow as pa
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import QueryError, SourceLocked
from scorebeat.core.jobs.job import Job
from scorebeat.db.connect import database_errors, engine, locks, user_sql
from scorebeat.db.connect.sql import KeyColumn, KeyRange, as_text, ident, subquery, within
from scorebeat.db.source.changes import TYPES, ChangeColumn
from scorebeat.db.source.cursor import TYPES as CURSOR_TYPES
from scorebeat.db.source.cursor import Cursor
from scorebeat.db.source.values import parameter_values, types
from scorebeat.db.source.values.parameter_values import RunValues


@dataclass(frozen=True)
class Source:
    """A checked query: its key columns, and its other columns with how each is read."""

    job: str
    query: str
    """With the values of its parameters."""
    keys: tuple[KeyColumn, ...]
    columns: pa.Schema
    casts: dict[str, str] = field(default_factory=dict)
    json: frozenset[str] = frozenset()
    read_as: dict[str, frozenset[str]] = field(default_factory=dict)
    """What the driver calls each column's type, before a cast."""
    most_bytes: dict[str, int] = field(default_factory=dict)
    """For a column, the key's too: the most bytes of memory that one value takes while the driver reads it. The bytes
    of `texts` are not counted. A column without a known bound is missing."""
    texts: frozenset[str] = frozenset()
    """Columns, the key's too, whose values are texts of any length."""
    cut_at: int | None = None
    """Set by `bounded`: texts are read up to this number of characters."""
    changes: ChangeColumn | None = None
    """The column by which a row is seen to have changed, if the job has one."""
    cursor: Cursor | None = None
    """The column whose values grow over the whole table, if one is known."""
    unique_by: tuple[int, ...] = ()
    """Table oid and column numbers of the key, if all its columns come from one table; else empty."""

    def expressions(self, name: str) -> list[str]:
        """SQL of a column as `db.batch_io.columns` reads it: the value, and columns that prove that it is the query's.

        For a cast it is a NULL of the column's own type; for an array, NULL unless it has several dimensions, which
        the driver drops.
        """
        column = f"q.{ident(name)}"
        parts = [f"{column}{self.casts.get(name, '')} AS {ident(name)}"]
        parts += [f"CASE WHEN false THEN {column} END"] if name in self.casts else []
        return parts + ([f"nullif(array_ndims({column}) > 1, false)"] if self.is_array(name) else [])

    def bounded(self, names: Sequence[str], rows: int, most: int) -> "Source | None":
        """The same source, of which `rows` rows of the key and the columns `names` take at most `most` bytes.

        Texts are read up to a length. None if the rows may take more bytes.
        """
        read = [*(key.name for key in self.keys), *names]
        if not self.most_bytes.keys() >= set(read):
            return None
        left = most // max(rows, 1) - sum(self.most_bytes[name] for name in read)
        left -= _OF_CHANGES if self.changes is not None else 0
        texts = self.texts & set(read)
        if left < 0 or not texts:
            return None if left < 0 else replace(self, cut_at=0)
        length = min(left // (len(texts) * types.BYTES_OF_A_CHARACTER), _LONGEST_VARCHAR)
        if length < _SHORTEST_CUT:
            return None
        cut = f"::varchar({length})::text"
        return replace(
            self,
            keys=tuple(replace(key, cast=cut) if key.name in texts else key for key in self.keys),
            casts=self.casts | {name: self.casts.get(name, "") + cut for name in names if name in texts},
            cut_at=length,
        )

    def is_array(self, name: str) -> bool:
        """Whether the column has arrays in PostgreSQL."""
        return name not in self.json and pa.types.is_list(self.columns.field(name).type)


_LONGEST_VARCHAR = 10_485_760
_OF_CHANGES = 200
"""Bytes of the two values that are read of a row beside its columns, `CHANGED_AT` and `SEEN`."""
_SHORTEST_CUT = 64
"""If texts were cut at fewer characters, ordinary ones would reach that length, and be read again whole."""


@dataclass(frozen=True)
class _Column:
    name: str
    type_oid: int
    table: int
    number: int
    size: tuple[int, ...]


@dataclass(frozen=True)
class _Type:
    """A row of `pg_type`: its name, its kind, and how it is shown, cast to, and sent."""

    name: str
    kind: str
    shown: str
    cast: str
    send: str
    is_compared: bool
    """Whether plain operators are the type's own: they are not found if its schema is not in the search path."""


def describe(connection: Connection, url: str, job: Job, values: RunValues | None = None) -> Source:
    """The columns and key of the job's query, after a check that it is one SELECT. Raises QueryError.

    `values` are those of a run, by default of `parameter_values.of_no_run`.
    """
    values = values or parameter_values.of_no_run(connection)
    query = parameter_values.bound_query(connection, job, values)
    parameter_values.require_used(connection, job)
    _one_select(connection, url, job, query)
    return read_columns(connection, job, values)


def read_columns(connection: Connection, job: Job, values: RunValues) -> Source:
    """The columns and key now of a job's query in the ledger, whose text was parsed when it was applied.

    Raises QueryError, because columns and types may have changed since.
    """
    return columns_of(connection, job, parameter_values.bound_query(connection, job, values))


def columns_of(connection: Connection, job: Job, query: str) -> Source:
    """The columns and key of a query that the job's rows are read from. Raises QueryError."""
    found = _columns(connection, job, query)
    types_of = _type_names(connection, [c.type_oid for c in found])
    keys = _keys(job, found, types_of)
    changes = _changes(job, found, types_of) if job.changed_at is not None else None
    cursor = _cursor(job, found, types_of)
    bounds = {c.name: _most_bytes(job, c, types_of[c.type_oid]) for c in found}
    texts = frozenset(c.name for c in found if types.is_text(types_of[c.type_oid].name))
    by_name = {column.name: column for column in found}
    key_columns = [by_name[name] for name in job.key]
    tables = [column.table for column in key_columns]
    readable: dict[str, types.Reading] = {}
    wrong = []
    for column in found:
        if column.name in job.key:
            continue
        found_type = types_of[column.type_oid]
        reading = types.reading(found_type.name, found_type.kind)
        if reading is None:
            wrong.append(f"column {column.name!r} is {found_type.shown}; readable are {types.READABLE}")
        else:
            readable[column.name] = reading
    if wrong:
        raise QueryError(f"jobs.{job.name}.query: " + "; ".join(wrong) + ". Cast it in the query, or leave it out.")
    return Source(
        job=job.name,
        query=query,
        keys=keys,
        columns=pa.schema([pa.field(name, reading.arrow) for name, reading in readable.items()]),
        casts={name: reading.cast for name, reading in readable.items() if reading.cast},
        json=frozenset(c.name for c in found if types_of[c.type_oid].name in types.JSON and c.name in readable),
        read_as={c.name: types.names(types_of[c.type_oid].name, c.type_oid) for c in found if c.name in readable},
        most_bytes={name: most for name, most in bounds.items() if most is not None},
        texts=texts,
        changes=changes,
        cursor=cursor,
        unique_by=(tables[0], *(c.number for c in key_columns)) if len(set(tables)) == 1 and tables[0] else (),
    )


def is_unique(connection: Connection, source: Source) -> bool:
    """Whether a unique index over NOT NULL columns, scanned alone, proves that no key repeats."""
    if not source.unique_by:
        return False
    table, *numbers = source.unique_by
    indexed = connection.execute(
        text(
            "SELECT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = :table AND i.indisunique AND i.indisvalid"
            " AND i.indpred IS NULL AND i.indexprs IS NULL"
            " AND (i.indkey::int2[])[0:i.indnkeyatts - 1] <@ CAST(:numbers AS int2[])"
            " AND NOT EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = i.indrelid"
            " AND a.attnum = ANY (CAST(:numbers AS int2[])) AND NOT a.attnotnull))"
        ),
        {"table": table, "numbers": numbers},
    ).scalar_one()
    return bool(indexed) and _single_scan(user_sql.plan(connection, f"SELECT * FROM {subquery(source.query)}"))


def bad_keys(connection: Connection, source: Source, limit: int = 5, since: str | None = None) -> list[str]:
    """Keys that are NULL or repeat, as texts; runs the whole query, so check `is_unique` first.

    With the SQL condition `since`, only among these rows.
    """
    names = ", ".join(f"q.{ident(k.name)}" for k in source.keys)
    nulls = " OR ".join(f"q.{ident(k.name)} IS NULL" for k in source.keys)
    shown = ", ".join(f"coalesce({as_text(f'q.{ident(k.name)}', k.type)}, 'NULL')" for k in source.keys)
    found = user_sql.rows(
        connection,
        f"SELECT concat_ws(', ', {shown}), count(*) FROM {subquery(source.query)}"
        f"{_where(since)} GROUP BY {names} HAVING count(*) > 1 OR ({nulls}) ORDER BY 2 DESC LIMIT {limit}",
    )
    return [f"({key}) {count} times" for key, count in found]


def _where(condition: str | None) -> str:
    return f" WHERE {condition}" if condition is not None else ""


def highest(connection: Connection, source: Source, since: str | None) -> int | None:
    """The largest value of a cursor of whole numbers, or the largest of the rows that meet the condition `since`.

    None if there is none.
    """
    if source.cursor is None:
        return None
    query = f"SELECT max({source.cursor.column}) FROM {subquery(source.query)}{_where(since)}"
    found = user_sql.rows(connection, query)[0][0]
    return int(found) if found is not None else None


def require_unique(connection: Connection, found: Source, since: str | None = None) -> None:
    """Raises QueryError, which names keys that are NULL or repeat. If an index proves uniqueness, no key is read.

    With the SQL condition `since`, only these rows are compared with each other.
    """
    bad = [] if is_unique(connection, found) else bad_keys(connection, found, since=since)
    if bad:
        raise QueryError(f"jobs.{found.job}.key must be unique and not NULL; the query gives {', '.join(bad)}.")


def estimated_rows(connection: Connection, source: Source, keep: KeyRange | None = None) -> int:
    """The planner's estimate of the query's rows, or of those with a key in the range."""
    where = f" WHERE {within(source.keys, 'q', keep)}" if keep else ""
    return int(user_sql.plan(connection, f"SELECT * FROM {subquery(source.query)}{where}")["Plan Rows"])


def estimated_bytes(connection: Connection, source: Source) -> int:
    """The planner's estimate of the bytes of the query's rows."""
    plan = user_sql.plan(connection, f"SELECT * FROM {subquery(source.query)}")
    return int(plan["Plan Rows"]) * int(plan["Plan Width"])


def _one_select(ledger: Connection, url: str, job: Job, query: str) -> None:
    """Parse the query alone in the extended protocol, which takes one statement, then as a subquery."""
    with engine.data_connection(url, "scorebeat check") as connection, connection.cursor() as cursor:
        for statement in (query, f"SELECT * FROM {subquery(query)}"):
            try:
                cursor.adbc_execute_schema(statement)
            except adbc_driver_manager.Error as error:
                connection.rollback()
                if database_errors.is_lock(error):
                    raise SourceLocked(f"jobs.{job.name}.query {locks.waits_for(ledger, job.query)}") from None
                raise QueryError(f"jobs.{job.name}.query {_reason(str(error))}") from None


def _reason(message: str) -> str:
    lines = message.splitlines()
    line = next((part for part in lines if "ERROR:" in part), lines[0]).split("ERROR:")[-1].strip()
    if "multiple commands" in message or "multi-query plan" in message:
        return "holds several statements; expected one SELECT"
    if "syntax error" in line or "WITH clause containing a data-modifying" in line:
        return f"is not one SELECT that PostgreSQL can run: {line}"
    return f"fails in PostgreSQL: {line}"


def _columns(connection: Connection, job: Job, query: str) -> list[_Column]:
    """The query's columns. Only what PostgreSQL computes while planning is run, and it can write nothing."""
    try:
        with connection.begin_nested() as part:
            connection.exec_driver_sql("SET LOCAL transaction_read_only = on")
            result = user_sql.describe(connection, f"SELECT * FROM {subquery(query)} LIMIT 0")
            part.rollback()  # undoes settings of the query
    except DBAPIError as error:
        if database_errors.is_lock(error):
            raise SourceLocked(f"jobs.{job.name}.query {locks.waits_for(connection, job.query)}") from None
        if error.connection_invalidated or database_errors.is_transient(error):
            raise  # the connection or a transient state is to blame, not the query
        raise QueryError(f"jobs.{job.name}.query {_reason(str(error.orig))}") from None
    described: Any = result.cursor.description if result.cursor is not None else ()
    found = [_Column(d[0], d.type_code, d.table_oid or 0, d.table_column or 0, _size(d)) for d in described]
    names = [c.name for c in found]
    repeated = sorted({n for n in names if names.count(n) > 1})
    if repeated:
        raise QueryError(f"jobs.{job.name}.query returns column {repeated[0]!r} twice; name its columns apart with AS")
    return found


def _size(described: Any) -> tuple[int, ...]:
    """The modifier of a column's type, empty without one: a length, or precision and scale."""
    if described.precision is not None and described.internal_size > 0:
        return described.precision, described.scale
    return (described.internal_size,) if described.type_code in _WITH_LENGTH and described.internal_size > 0 else ()


_WITH_LENGTH = (1042, 1043)
"""Oids of bpchar and varchar."""
CASTABLE = (
    "CASE WHEN {t}.typnamespace = 'pg_catalog'::regnamespace THEN format_type({t}.oid, -1)"
    " ELSE format('%I.%I', {t}.typnamespace::regnamespace::name, {t}.typname) END"
)
"""SQL: a type's name, the same under any search path. For `format` with an alias of `pg_type`."""


def _type_names(connection: Connection, oids: list[int]) -> dict[int, _Type]:
    rows = connection.execute(
        text(
            f"SELECT t.oid, t.typname, t.typtype, format_type(t.oid, -1), {CASTABLE.format(t='t')},"
            " (SELECT format('%I.%I', p.pronamespace::regnamespace::name, p.proname) FROM pg_proc p"
            " WHERE p.oid = t.typsend), t.typtype <> 'b' OR pg_type_is_visible(t.oid)"
            " FROM pg_type t WHERE t.oid = ANY (CAST(:oids AS oid[]))"
        ),
        {"oids": oids},
    )
    return {oid: _Type(*values) for oid, *values in rows}


def _keys(job: Job, found: list[_Column], types_of: dict[int, _Type]) -> tuple[KeyColumn, ...]:
    by_name = {c.name: c for c in found}
    missing = [k for k in job.key if k not in by_name]
    if missing:
        raise QueryError(
            f"jobs.{job.name}.query has no column {', '.join(map(repr, missing))}, which `key` names; "
            f"it returns {', '.join(by_name)}"
        )
    keys = []
    for name in job.key:
        column = by_name[name]
        kind = types_of[column.type_oid]
        if not types.is_key(kind.name, kind.kind):
            raise QueryError(
                f"jobs.{job.name}.key: column {name!r} is {kind.shown}; a key may be {', '.join(types.KEYS)} or an "
                f"enum. Write (x::text) AS {ident(name)} in the query instead of the column x, or another of these "
                "types, and index the same expression: CREATE UNIQUE INDEX ON its_table ((x::text)); ANALYZE its_table"
            )
        if not kind.is_compared:
            raise QueryError(
                f"jobs.{job.name}.key: column {name!r} is {kind.cast}, whose schema is not in the search path: keys "
                "would be compared as texts, not as that type compares them. Add the schema to search_path by ALTER "
                f"ROLE, ALTER DATABASE or the URL's options, or write (x::text) AS {ident(name)} in the query"
            )
        send = kind.send if types.is_copied(kind.name) else ""
        keys.append(KeyColumn(name, kind.cast, types.names(kind.name, column.type_oid), send, column.size))
    return tuple(keys)


def _named(job: Job, setting: str, found: list[_Column]) -> _Column:
    """The column that a setting of the job names."""
    name = getattr(job, setting)
    column = next((c for c in found if c.name == name), None)
    if column is None:
        raise QueryError(
            f"jobs.{job.name}.query has no column {name!r}, which `{setting}` names; it returns "
            f"{', '.join(c.name for c in found)}"
        )
    return column


def _changes(job: Job, found: list[_Column], types_of: dict[int, _Type]) -> ChangeColumn:
    column = _named(job, "changed_at", found)
    kind = types_of[column.type_oid]
    if kind.name not in TYPES:
        name = ident(column.name)
        raise QueryError(
            f"jobs.{job.name}.changed_at: column {column.name!r} is {kind.shown}; expected one of "
            f"{', '.join(TYPES.values())}. Write ({name})::timestamptz AS {name} in the query, or ::bigint for a "
            "number that only grows"
        )
    return ChangeColumn(column.name, TYPES[kind.name], types.names(kind.name, column.type_oid))


def _cursor(job: Job, found: list[_Column], types_of: dict[int, _Type]) -> Cursor | None:
    """The cursor, by default the column of `changed_at` if it is a time: a number may be one that each row counts."""
    setting = "changed_at" if job.cursor is None else "cursor"
    if getattr(job, setting) is None:
        return None
    column = _named(job, setting, found)
    kind = types_of[column.type_oid]
    if kind.name not in CURSOR_TYPES:
        raise QueryError(
            f"jobs.{job.name}.cursor: column {column.name!r} is {kind.shown}; expected one of "
            f"{', '.join(CURSOR_TYPES.values())}, whose values grow with each new row"
        )
    origin = (column.table, column.number) if column.table else None
    cursor = Cursor(column.name, CURSOR_TYPES[kind.name], origin)
    if setting == "changed_at" and not cursor.is_time:
        return None
    if job.lookback is not None and isinstance(job.lookback, int) == cursor.is_time:
        wanted = "a duration in quotes, such as '15m'" if cursor.is_time else "a whole number, such as 1000"
        raise QueryError(f"jobs.{job.name}.lookback: the column {column.name!r} is {kind.shown}; expected {wanted}")
    return cursor


_OF_A_VALUE = 32
"""Bytes that libpq takes for each value, besides the value itself."""


def _most_bytes(job: Job, column: _Column, its: _Type) -> int | None:
    """A column may be read as two columns. None if no bound is known."""
    is_key = column.name in job.key
    most = types.most_bytes(its.name, its.kind, column.size)
    if most is None or (is_key and its.name in types.THROUGH_TEXT):  # such a key is read with all its digits
        return None
    return 2 * _OF_A_VALUE + most * (1 + is_key)


def _single_scan(node: dict[str, Any]) -> bool:
    """Whether the plan reads one table once, and nothing multiplies its rows."""
    while True:
        if node["Node Type"] in ("Append", "Nested Loop", "Hash Join", "Merge Join", "ProjectSet"):
            return False
        below = [p for p in node.get("Plans", ()) if p.get("Parent Relationship") != "SubPlan"]
        if len(below) > 1:
            return False
        if not below:
            return "Relation Name" in node
        node = below[0]
