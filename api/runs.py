"""`/runs`: looking at runs, asking for them, requeueing and cancelling them."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, Field

from api import asked, schemas
from api.errors import conflict, documented
from api.keys import PlainText
from api.schemas import LARGEST_ID, Id, NewRun, WhatToRequeue
from api.service import BY, Served, Service
from core.errors import ServiceDown, UnknownName, UsageError
from core.states import RunState
from db import pages, results, status
from db.engine import reachable
from producer import requeue as by_hand
from producer.enqueue import enqueue

router = APIRouter(prefix="/runs", tags=["runs"])

_SAME: dict[str, Any] = {"model": schemas.Enqueued, "description": "The run_key had made this run before."}
RunId = Annotated[Id, Path(description="A run's number.")]


class Asked(BaseModel):
    """Which runs."""

    job: PlainText | None = None
    state: list[RunState] = Field([], description="May be given again; all states if left out.")
    before: Id | None = Field(None, description="Runs with a smaller number only.")
    limit: int = Field(50, ge=1, le=1000)


class Part(BaseModel):
    """Which groups of failures."""

    offset: int = Field(0, ge=0, le=LARGEST_ID)
    limit: int = Field(50, ge=1, le=1000)


@router.get("")
def listing(s: Served, wanted: Annotated[Asked, Query()]) -> schemas.Runs:
    """Runs, the newest first."""
    with results.reading(s.engine) as connection:
        found = pages.runs(
            connection, job=wanted.job, states=wanted.state, before=wanted.before, limit=wanted.limit + 1
        )
    shown = [schemas.Run.model_validate(line) for line in found[: wanted.limit]]
    return schemas.Runs(runs=shown, next=shown[-1].id if len(found) > wanted.limit else None)


@router.post("", status_code=201, responses={200: _SAME, **documented(400, 404, 409)})
def new(s: Served, wanted: NewRun, response: Response) -> schemas.Enqueued:
    """Score the rows of a job that have no prediction yet. 200 when the run_key had made this run before."""
    made = enqueue(s.producer, asked.request(s.producer, wanted))
    response.headers["Location"] = f"/runs/{made.run_id}"
    response.status_code = 201 if made.is_new else 200
    return schemas.Enqueued(run=made.run_id, is_new=made.is_new)


@router.get("/{run}", responses=documented(404))
def one(s: Served, run: RunId) -> schemas.RunDetails:
    """A run, its speed, and its batches by state."""
    with results.reading(s.engine) as connection:
        line = status.get(connection, run)
        pace = pages.pace(connection, line)
        states = status.batch_states(connection, run)
    return schemas.RunDetails(
        **schemas.Run.model_validate(line).model_dump(),
        rows_a_second=pace.rows_a_second,
        seconds_left=pace.left.total_seconds() if pace.left is not None else None,
        states=[schemas.BatchesInState.model_validate(row) for row in states],
    )


@router.get("/{run}/failures", responses=documented(404))
def failures(s: Served, run: RunId, part: Annotated[Part, Query()]) -> schemas.Failures:
    """What failed in a run, grouped by error, the most frequent first."""
    with results.reading(s.engine) as connection:
        status.get(connection, run)
        found = pages.failure_groups(connection, run, limit=part.limit + 1, offset=part.offset)
    groups = [schemas.FailureGroup.model_validate(group) for group in found[: part.limit]]
    return schemas.Failures(groups=groups, next=part.offset + part.limit if len(found) > part.limit else None)


@router.post("/{run}/requeue", responses=documented(404, 409))
def requeue(s: Served, run: RunId, what: WhatToRequeue | None = None) -> schemas.Requeued:
    """Put dead batches and quarantined rows back. Safe to repeat, and by two people at once."""
    what = what or WhatToRequeue()
    _require_batch(s, run, what.batch)
    try:
        count = by_hand.requeue(s.producer, run, BY, batch_id=what.batch, error=what.error)
    except (UnknownName, ServiceDown):
        raise
    except UsageError as error:
        raise conflict(error) from None
    return schemas.Requeued(run=run, batches=count)


@router.post("/{run}/cancel", responses=documented(404))
def cancel(s: Served, run: RunId) -> schemas.Cancelled:
    """Stop an open run: what it scored stays, the rest is pending for the next run."""
    return schemas.Cancelled(run=run, cancelled=by_hand.cancel(s.producer, run, BY))


def _require_batch(s: Service, run: int, batch: int | None) -> None:
    if batch is None:
        return
    with reachable(s.producer.url), s.engine.connect() as connection:
        status.get(connection, run)
        if not status.batches(connection, run, batch):
            raise UnknownName(f"run {run} has no batch {batch}")
