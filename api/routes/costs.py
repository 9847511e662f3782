"""`/costs`: what runs cost, by job and month."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from scorebeat.api import schemas
from scorebeat.api.errors import documented
from scorebeat.api.keys import PlainText
from scorebeat.api.service import Served
from scorebeat.db.reports import results
from scorebeat.producer.costs import cost_report

reading = APIRouter(prefix="/costs", tags=["costs"])
"""May be open to everybody."""


class CostsQuery(BaseModel):
    """Which runs."""

    job: PlainText | None = None
    month: str | None = Field(
        None,
        pattern=r"^(19|2[0-9])[0-9]{2}-(0[1-9]|1[0-2])$",
        description="Runs that began in this month, in UTC, such as 2026-07; all months if left out.",
    )


@reading.get("", responses=documented(404))
def listing(service: Served, wanted: Annotated[CostsQuery, Query()]) -> schemas.Costs:
    """What runs cost, by job and month, the newest month first; and of all jobs, how long workers were idle."""
    month = date.fromisoformat(f"{wanted.month}-01") if wanted.month is not None else None
    with results.reading(service.engine) as connection:
        found = cost_report.report(connection, wanted.job, month)
    return schemas.Costs(
        months=[
            schemas.JobMonth(
                job=one.job,
                month=f"{one.month:%Y-%m}",
                runs=one.runs,
                unmeasured_runs=one.unmeasured,
                rows=one.cost.rows,
                **schemas.Cost.of(one.cost).model_dump(),
            )
            for one in found.months
        ],
        idle=[
            schemas.IdleWorkers(
                month=f"{one.month:%Y-%m}",
                device=one.device,
                alive_seconds=one.alive_seconds,
                idle_seconds=one.idle_seconds,
                cost=one.cost,
            )
            for one in found.idle
        ],
    )
