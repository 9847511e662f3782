"""A job's truth: the query of what really happened, by the key of its predictions."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
from sqlalchemy import Connection
from sqlalchemy.exc import ProgrammingError

from scorebeat.core.errors import QueryError, SourceLocked
from scorebeat.core.jobs import query_names
from scorebeat.core.jobs.job import Job
from scorebeat.db.connect import user_sql
from scorebeat.db.connect.sql import as_text, columns, ident, same_key, subquery
from scorebeat.db.source import source
from scorebeat.db.source.source import Source
from scorebeat.db.source.values import parameter_values

LABEL, KNOWN_AT = "label", "known_at"


@dataclass(frozen=True)
class Truth:
    """A checked query: the key's columns are those of the job."""

    source: Source
    known_at: pa.DataType | None
    """Type of the column `known_at`; None: the query has none."""

    @property
    def label(self) -> pa.DataType:
        """Type of the column `label` as it is read."""
        return self.source.columns.field(LABEL).type


def describe(connection: Connection, url: str, job: Job) -> Truth:
    """The truth of a job that is new or changed, whose query is parsed alone. Raises QueryError or SourceLocked."""
    with _named(job):
        return _checked(job, source.describe(connection, url, _as_query(job)))


def read_columns(connection: Connection, job: Job) -> Truth:
    """The truth of a job in the ledger, with its tables as they are now. Raises QueryError or SourceLocked."""
    with _named(job):
        values = parameter_values.of_no_run(connection)
        return _checked(job, source.read_columns(connection, _as_query(job), values))


def require_one_row_a_key(connection: Connection, job: Job, found: Truth) -> None:
    """Raises QueryError, which names keys with several rows. If an index proves that none has, no row is read."""
    if source.is_unique(connection, found.source):
        return
    keys = found.source.keys
    names = columns(keys, "q")
    shown = ", ".join(as_text(f"q.{ident(key.name)}", key.type) for key in keys)
    known = " AND ".join(f"q.{ident(key.name)} IS NOT NULL" for key in keys)
    several = user_sql.rows(
        connection,
        f"SELECT concat_ws(', ', {shown}), count(*) FROM {subquery(found.source.query)} WHERE {known}"
        f" GROUP BY {names} HAVING count(*) > 1 ORDER BY 2 DESC, 1 LIMIT 5",
    )
    if several:
        own = ", ".join(ident(key.name) for key in keys)
        newest = f"SELECT DISTINCT ON ({own}) ... ORDER BY {own}, known_at DESC takes the newest one"
        raise QueryError(
            f"jobs.{job.name}.truth has several rows for one key: "
            f"{', '.join(f'({key}) {count} times' for key, count in several)}; expected one row a key. {newest}"
        )


def require_same_key(connection: Connection, job: Job, found: Truth, rows: str) -> None:
    """Raises QueryError unless PostgreSQL can compare the key with that of `rows`, a subquery named p."""
    on = same_key(found.source.keys, "p", "q")
    try:
        with connection.begin_nested():
            user_sql.plan(connection, f"SELECT 1 FROM {rows} JOIN {subquery(found.source.query)} ON {on}")
    except ProgrammingError as error:
        reason = str(error.orig).splitlines()[0].strip()
        has = ", ".join(f"{key.name} {key.type}" for key in found.source.keys)
        raise QueryError(
            f"jobs.{job.name}.truth has the key ({has}), which cannot be compared with that of the predictions: "
            f"{reason}. Cast it in the truth, such as {job.key[0]}::bigint AS {job.key[0]}"
        ) from None


def is_empty(connection: Connection, found: Truth) -> bool:
    """Whether the query returns no row."""
    return not user_sql.rows(connection, f"SELECT 1 FROM {subquery(found.source.query)} LIMIT 1")


def _as_query(job: Job) -> Job:
    """The job as if its truth were the query whose rows are scored."""
    own = {name: kept for name, kept in job.parameters.items() if name in query_names.find(job.truth or "")}
    changed = {"query": job.truth, "parameters": own, "changed_at": None, "cursor": None, "lookback": None}
    return job.model_copy(update=changed)


@contextmanager
def _named(job: Job) -> Iterator[None]:
    """Errors name the setting that is wrong."""
    try:
        yield
    except (QueryError, SourceLocked) as error:
        raise type(error)(str(error).replace(f"jobs.{job.name}.query", f"jobs.{job.name}.truth")) from None


def _checked(job: Job, found: Source) -> Truth:
    names = [key.name for key in found.keys] + found.columns.names
    if LABEL not in found.columns.names:
        key = ", ".join(job.key)
        raise QueryError(
            f"jobs.{job.name}.truth has no column 'label' beside the key; it returns {', '.join(names)}. Name what "
            f"really happened so: SELECT {key}, outcome AS label FROM ..."
        )
    if KNOWN_AT not in found.columns.names:
        return Truth(found, None)
    kind = found.columns.field(KNOWN_AT).type
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        raise QueryError(
            f"jobs.{job.name}.truth: column 'known_at' is {kind}; expected timestamptz, timestamp or date: when the "
            "label became known. Write known_at::timestamptz AS known_at, or leave it out"
        )
    return Truth(found, kind)
