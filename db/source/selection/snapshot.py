"""The snapshot of a run: a table of its own with the rows that its query gave, numbered in key order.

The role that plans the run makes the table, and its query can write nothing. It is a logged table: PostgreSQL empties
an unlogged one after a crash, and a batch without rows would look like one that is done.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import psycopg2.errors
import pyarrow as pa
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import NotPermitted, QueryError, SnapshotLost
from scorebeat.core.jobs.job import Job
from scorebeat.core.table_names import WORK, snapshot_table
from scorebeat.db.connect import user_sql
from scorebeat.db.connect.sql import Key, KeyRange, among, ident, subquery, texts
from scorebeat.db.schema import ownership, roles
from scorebeat.db.source import source
from scorebeat.db.source.selection.pending import NUMBER, PendingRows
from scorebeat.db.source.source import Source

MOST_COLUMNS = 1_600
"""Columns of a table of PostgreSQL."""
MOST_BYTES = 8_160
"""Bytes of a row of a table, without long values, which are stored elsewhere."""
OTHER_COLUMNS = "has other columns than the plan made"
_HEAD = 32
"""Bytes of a row before its columns, and of its number."""


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One snapshot of the database for a transaction that makes a table.

    A session that takes no writes stays so: the first statement that writes fails.
    """
    with engine.connect() as connection, connection.begin():
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield connection


def require_storable(job: Job, found: Source, names: Sequence[str]) -> None:
    """Raises QueryError if no table can have the number of a row, the key and the model's inputs as its columns."""
    keys = job.key
    if NUMBER in (*keys, *names):
        raise QueryError(
            f"jobs.{job.name}.query returns a column {NUMBER}, which is the number of a row where snapshot = true "
            "stores them; give it another name with AS"
        )
    wanted = 1 + len(keys) + len(names)
    if wanted > MOST_COLUMNS:
        raise QueryError(
            f"jobs.{job.name}.query cannot be stored: with snapshot = true it takes a table of {wanted:,} columns, for "
            f"the row's number, its key and {len(names):,} inputs of the model, and PostgreSQL's have at most "
            f"{MOST_COLUMNS:,}. {_INSTEAD}"
        )
    least = _HEAD + sum(_least_bytes(found, name) for name in names)
    if least > MOST_BYTES:
        raise QueryError(
            f"jobs.{job.name}.query cannot be stored: with snapshot = true a row of its {len(names):,} inputs takes "
            f"{least:,} bytes or more, and a row of PostgreSQL's tables at most {MOST_BYTES:,}. {_INSTEAD}"
        )


_INSTEAD = "Feed the inputs by one array column, or take snapshot out"


def _least_bytes(found: Source, name: str) -> int:
    """Bytes that a value of the column takes at least, if it is not NULL."""
    kind = found.columns.field(name).type
    return max(kind.bit_width // 8, 1) if pa.types.is_primitive(kind) and name not in found.casts else 1


def why_forbidden(connection: Connection) -> str | None:
    """Why our role cannot make the table of a run, with the statement that lets it; None if it can."""
    role, exists, may = connection.execute(
        text(
            "SELECT current_user, to_regnamespace(:work) IS NOT NULL, coalesce(has_schema_privilege(to_regnamespace"
            "(:work), 'CREATE') AND has_schema_privilege(to_regnamespace(:work), 'USAGE'), false)"
        ),
        {"work": WORK},
    ).one()
    if may:
        return None
    owner = ident(ownership.owner(connection))
    if not exists:
        return (
            f"there is no schema {WORK}, where runs with snapshot = true store their rows, and the role {owner} may "
            f"make none. Let an administrator run `CREATE SCHEMA {WORK} AUTHORIZATION {owner}`, then the owner "
            "`scorebeat migrate`, which grants it to the roles that run"
        )
    return (
        f"the role {role!r} may make no table in the schema {WORK}, where runs with snapshot = true store their rows. "
        f"Let {owner} run `GRANT USAGE, CREATE ON SCHEMA {WORK} TO {ident(role)}`"
    )


def make(
    connection: Connection, pending: PendingRows, names: Sequence[str], *, anti_join: bool, limit: int | None, to: str
) -> int:
    """Store the pending rows, and return how many; `to` is the table's name, and one of that name is replaced.

    Raises NotPermitted, DBAPIError, or QueryError for keys that are NULL or repeat.
    """
    forbidden = why_forbidden(connection)
    if forbidden is not None:
        raise NotPermitted(f"jobs.{pending.source.job}: {forbidden}")
    # where the session takes no writes this fails, and not the user's SQL, which would be to blame
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {to}")
    select = pending.to_store(names, limit, anti_join=anti_join)
    user_sql.create_table(connection, to, select)
    try:
        user_sql.store_rows(connection, to, select)
    except DBAPIError as error:
        if not isinstance(error.orig, psycopg2.errors.ProgramLimitExceeded):
            raise
        raise QueryError(
            f"jobs.{pending.source.job}.query cannot be stored, as snapshot = true wants: "
            f"{error.orig.diag.message_primary}. {_INSTEAD}"
        ) from None
    connection.exec_driver_sql(f"ALTER TABLE {to} ADD PRIMARY KEY ({NUMBER})")
    rows = int(connection.exec_driver_sql(f"SELECT coalesce(max({NUMBER}), 0) FROM {to}").scalar_one())
    source.require_unique(connection, replace(pending.source, query=f"SELECT * FROM {to}"))
    connection.exec_driver_sql(f"ANALYZE {to}")
    me = ownership.current(connection)
    readers = {ownership.owner(connection), *roles.granted(connection)} - {me}
    if readers:
        connection.exec_driver_sql(f"GRANT SELECT ON {to} TO {', '.join(map(ident, sorted(readers)))}")
    return rows


def adopt(connection: Connection, run_id: int, attempt: int) -> None:
    """Make what this attempt at the plan stored the snapshot of the run."""
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {snapshot_table(run_id)}")
    connection.exec_driver_sql(f"ALTER TABLE {snapshot_table(run_id, attempt)} RENAME TO run_{run_id:d}")


def is_there(connection: Connection, run_id: int) -> bool:
    """Whether the snapshot of the run still exists."""
    return bool(
        connection.execute(text("SELECT to_regclass(:table) IS NOT NULL"), {"table": snapshot_table(run_id)}).scalar()
    )


def source_of(connection: Connection, job: Job, run_id: int) -> Source:
    """The snapshot as the rows that batches read. Raises SnapshotLost."""
    if not is_there(connection, run_id):
        raise lost(job, run_id, "is gone")
    try:
        found = source.columns_of(connection, job, f"SELECT * FROM {snapshot_table(run_id)}")
    except QueryError:
        raise lost(job, run_id, OTHER_COLUMNS) from None
    columns = [field for field in found.columns if field.name != NUMBER]
    return replace(found, columns=pa.schema(columns))


def lost(job: Job, run_id: int, how: str) -> SnapshotLost:
    """The error for a snapshot from which rows are missing."""
    return SnapshotLost(
        f"the snapshot of run {run_id}, {snapshot_table(run_id)}, {how}: somebody dropped or changed it, or it was "
        f"pruned. Nothing of the batch was committed as done; `scorebeat enqueue {job.name}` scores the rows that are "
        "pending"
    )


def require_rows(connection: Connection, job: Job, run_id: int, numbers: tuple[int, int]) -> None:
    """Raises SnapshotLost if not all rows with these numbers are there now: what was read before may lack some.

    No row is added after the plan, so all that are there now were there before.
    """
    first, last = numbers
    if not is_there(connection, run_id):
        raise lost(job, run_id, "is gone")
    found = connection.exec_driver_sql(
        f"SELECT count(*) FROM {snapshot_table(run_id)} WHERE {NUMBER} BETWEEN {first:d} AND {last:d}"
    ).scalar_one()
    if found != last - first + 1:
        raise lost(job, run_id, f"has {found:,} of the {last - first + 1:,} rows {first:,} to {last:,}")


def span(connection: Connection, stored: Source, first: int, last: int) -> KeyRange:
    """The rows of a batch by their numbers, with the keys of the first and the last one."""
    statement = (
        f"SELECT {texts(stored.keys, 'q')} FROM {subquery(stored.query)} WHERE q.{NUMBER} IN ({first:d}, {last:d})"
        f" ORDER BY q.{NUMBER}"
    )
    found = [tuple(key) for key in connection.exec_driver_sql(statement)]
    return KeyRange(found[0], found[-1], (first, last))


def numbers_of(connection: Connection, job: Job, run_id: int, stored: Source, keys: Sequence[Key]) -> tuple[int, int]:
    """The lowest and the highest number of the rows with these keys. Raises SnapshotLost if one of them is missing."""
    found, first, last = connection.exec_driver_sql(
        f"SELECT count(*), min(q.{NUMBER}), max(q.{NUMBER}) FROM {subquery(stored.query)}"
        f" WHERE {among(stored.keys, 'q', keys)}"
    ).one()
    if found != len(keys):
        raise lost(job, run_id, f"has {found:,} of {len(keys):,} rows that are to be scored again")
    return first, last


def keys_in(connection: Connection, stored: Source, numbers: tuple[int, int]) -> Iterator[Key]:
    """The keys of the rows with these numbers, in key order."""
    first, last = numbers
    statement = (
        f"SELECT {texts(stored.keys, 'q')} FROM {subquery(stored.query)} WHERE q.{NUMBER} BETWEEN {first:d}"
        f" AND {last:d} ORDER BY q.{NUMBER}"
    )
    for key in connection.exec_driver_sql(statement):
        yield tuple(key)
