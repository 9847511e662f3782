"""Predictions of a set that another query of the job made, counted by their runs."""

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from scorebeat.core.jobs.job import Job
from scorebeat.db.predictions.prediction_sets import PredictionSet


@dataclass(frozen=True)
class Origin:
    """Number of predictions of a set that do not come from a query."""

    other: int
    """Predictions of runs that had another query."""
    unknown: int
    """Predictions whose batches were pruned."""


def count(connection: Connection, found: PredictionSet, job: Job) -> Origin:
    """Count predictions that the job's current query, with its parameters, did not make. Reads the whole table."""
    row = connection.execute(
        text(
            "SELECT coalesce(sum(p.rows) FILTER (WHERE r.spec ->> 'query' <> :query"
            " OR coalesce(r.spec -> 'parameters', '{}') <> :parameters), 0)::bigint,"
            " coalesce(sum(p.rows) FILTER (WHERE r.id IS NULL), 0)::bigint"
            f" FROM (SELECT batch_id, count(*) AS rows FROM {found.table} GROUP BY batch_id) p"
            " LEFT JOIN scorebeat.batches b ON b.id = p.batch_id LEFT JOIN scorebeat.runs r ON r.id = b.run_id"
        ).bindparams(bindparam("parameters", type_=JSONB)),
        {"query": job.query, "parameters": job.model_dump(mode="json").get("parameters", {})},
    ).one()
    return Origin(*row)
