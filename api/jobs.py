"""`/jobs`: when each job is due, how it ended last, and why it was left out last."""

from fastapi import APIRouter

from scorebeat.api import schemas
from scorebeat.api.service import Served
from scorebeat.db.reports import job_lines, results
from scorebeat.producer.control import unserved

reading = APIRouter(prefix="/jobs", tags=["jobs"])
"""May be open to everybody."""


@reading.get("")
def listing(s: Served) -> schemas.Jobs:
    """The jobs, by name."""
    with results.reading(s.engine) as connection:
        lines = job_lines.listing(connection)
        notes = unserved.of_jobs(connection, lines)
    return schemas.Jobs(jobs=[schemas.Job.model_validate(line) for line in lines], notes=notes)
