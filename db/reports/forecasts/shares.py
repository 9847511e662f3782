"""The share of its jobs' rows that a model version has scored."""

from collections.abc import Iterable

import psycopg2.errors
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import QueryError, SourceLocked
from scorebeat.core.jobs.job import Job
from scorebeat.db.connect import locks, user_sql
from scorebeat.db.connect.sql import subquery
from scorebeat.db.source import source
from scorebeat.db.source.values import parameter_values

COUNT_WITHIN = "2s"
"""If counting a query takes longer, its rows are estimated."""


def done(connection: Connection, name: str, version: int, users: Iterable[Job], rows: dict[str, int]) -> float | None:
    """The scored share of the rows of jobs that use the version; `rows` has each job's. None without rows."""
    mine = [job.name for job in users if job.model in (name, f"{name}/{version}") and rows.get(job.name)]
    scored = _scored(connection, name, version)
    whole = sum(rows[job] for job in mine)
    # predictions of rows that left the query must not count for others
    return sum(min(scored.get(job, 0), rows[job]) for job in mine) / whole if whole else None


def rows_of(connection: Connection, job: Job) -> int | None:
    """Number of rows of the job's query now, by the planner's estimate if counting takes long; None if it fails."""
    try:
        query = parameter_values.bound_query(connection, job, parameter_values.of_no_run(connection))
        with connection.begin_nested():
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{COUNT_WITHIN}'")
            locks.wait_at_most(connection, locks.FOR_A_PERSON)
            (count,) = user_sql.rows(connection, f"SELECT count(*) FROM {subquery(query)}")[0]
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            return int(count)
    except DBAPIError as error:
        return _estimated(connection, job) if isinstance(error.orig, psycopg2.errors.QueryCanceled) else None


def _estimated(connection: Connection, job: Job) -> int | None:
    try:
        return source.estimated_rows(
            connection, source.read_columns(connection, job, parameter_values.of_no_run(connection))
        )
    except (QueryError, SourceLocked):
        return None


def _scored(connection: Connection, name: str, version: int) -> dict[str, int]:
    """Scored rows by job, in the set that readers would see of the version, as the ledger counts them."""
    found = connection.execute(
        text(
            "SELECT s.job, coalesce(sum(b.rows_scored), 0) FROM (SELECT DISTINCT ON (job) job, id"
            " FROM scorebeat.prediction_sets WHERE model = :model AND model_version = :version"
            " AND dropped_at IS NULL AND complete_at IS NOT NULL ORDER BY job, generation DESC) s"
            " LEFT JOIN scorebeat.runs r ON r.prediction_set_id = s.id"
            " LEFT JOIN scorebeat.batches b ON b.run_id = r.id GROUP BY s.job"
        ),
        {"model": name, "version": version},
    )
    return {row[0]: int(row[1]) for row in found}
