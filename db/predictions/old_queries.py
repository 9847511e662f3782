"""Predictions that come from another query than the job has now, by the runs that made them."""

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from scorebeat.core.jobs.job import Job
from scorebeat.db.predictions.prediction_sets import PredictionSet


@dataclass(frozen=True)
class Origin:
    """How many predictions of a set come from elsewhere than a query."""

    other: int
    """From runs that had another query."""
    unknown: int
    """Their batches were pruned."""


def count(connection: Connection, found: PredictionSet, job: Job) -> Origin:
    """Predictions of the set that the query of the job, with its parameters, did not make. Reads the whole table."""
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
