"""A job's query with the values of its `:name`s: typed literals, which mean the same under all settings of a session.

A literal works wherever the query is used: in a cursor of PL/pgSQL, in EXPLAIN, in CREATE TABLE AS and over the ADBC
driver. Bound parameters do not.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection

from scorebeat.core.errors import QueryError, did_you_mean
from scorebeat.core.jobs import query_names
from scorebeat.core.jobs.job import Job
from scorebeat.core.jobs.parameters import DUE_AT, OF_EVERY_RUN, RUN_ID, Parameter
from scorebeat.db.connect import database_clock, user_sql
from scorebeat.db.connect.sql import literal

_TYPES = {
    "text": "text",
    "integer": "int4",
    "bigint": "int8",
    "double precision": "float8",
    "boolean": "bool",
    "date": "date",
    "timestamp": "timestamp",
    "timestamptz": "timestamptz",
}
"""PostgreSQL's names, in pg_catalog under any search path, by the types of parameters."""


@dataclass(frozen=True)
class RunValues:
    """The values of `:due_at` and `:run_id`."""

    due_at: datetime
    run_id: int


def of_no_run(connection: Connection, due_at: datetime | None = None) -> RunValues:
    """Values for reading a query without a run: those of a run by hand now, with the number 0."""
    return RunValues(due_at or database_clock.now(connection), 0)


def bound_query(connection: Connection, job: Job, values: RunValues) -> str:
    """The job's query with all values. Raises QueryError for a name without a value."""
    unknown = [name for name in names(connection, job) if name not in (*OF_EVERY_RUN, *job.parameters)]
    if unknown:
        known = [*OF_EVERY_RUN, *job.parameters]
        raise QueryError(
            f"jobs.{job.name}.query has :{unknown[0]}, which is no parameter; known are :{', :'.join(known)}."
            f"{did_you_mean(unknown[0], known)} Declare others in [jobs.{job.name}.parameters]"
        )
    texts = {name: _expression(parameter) for name, parameter in job.parameters.items()}
    texts[DUE_AT] = _expression(Parameter(type="timestamptz", text=values.due_at.astimezone(UTC).isoformat()))
    texts[RUN_ID] = _expression(Parameter(type="bigint", text=str(int(values.run_id))))
    return query_names.replace(job.query, texts, backslashes=_backslashes(connection))


def require_used(connection: Connection, job: Job) -> None:
    """Raises QueryError for a declared parameter that the query does not use: the query may misspell its name."""
    unused = [name for name in job.parameters if name not in names(connection, job)]
    if unused:
        raise QueryError(
            f"jobs.{job.name}.parameters: the query does not use :{', :'.join(unused)}; write it into the query, or "
            "take it out of jobs.toml"
        )


def names(connection: Connection, job: Job) -> list[str]:
    """The `:name`s of the query, as this session reads its literals."""
    return query_names.find(job.query, backslashes=_backslashes(connection))


def differ_by_run(connection: Connection, job: Job) -> bool:
    """Whether the query returns other rows for another run: its rows now prove nothing about those of earlier runs."""
    return any(name in OF_EVERY_RUN for name in names(connection, job))


def _backslashes(connection: Connection) -> bool:
    theirs = connection.info.get(user_sql.SETTINGS, {})
    return bool(theirs.get("standard_conforming_strings") == "off")


def _expression(parameter: Parameter) -> str:
    # the blank before it: directly after a name, CAST( would be part of the name
    return f" CAST({literal(parameter.text)} AS pg_catalog.{_TYPES[parameter.type]})"
