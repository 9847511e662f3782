"""`/jobs`: when each job is due, how it ended last, and why it was left out last."""

from typing import Annotated

from fastapi import APIRouter, Path

from scorebeat.api import schemas
from scorebeat.api.errors import documented
from scorebeat.api.keys import PlainText
from scorebeat.api.service import Served
from scorebeat.db.ledger.evidence import quality
from scorebeat.db.reports import results
from scorebeat.db.reports.pages import job_lines
from scorebeat.producer.control.notices import unserved

reading = APIRouter(prefix="/jobs", tags=["jobs"])
"""May be open to everybody."""


@reading.get("")
def listing(service: Served) -> schemas.Jobs:
    """The jobs, by name."""
    with results.reading(service.engine) as connection:
        lines = job_lines.listing(connection)
        notes = unserved.of_jobs(connection, lines)
    return schemas.Jobs(jobs=[schemas.Job.model_validate(line) for line in lines], notes=notes)


@reading.get("/{job}/quality", responses=documented(400, 404))
def of_quality(service: Served, job: Annotated[PlainText, Path(max_length=100)]) -> schemas.JobQuality:
    """How well the job's predictions fit what really happened, by model version and week; the newest week first."""
    with results.reading(service.engine) as connection:
        return schemas.JobQuality.model_validate(quality.of_job(connection, job))
