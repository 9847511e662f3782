"""`/runs`: list, show, open, requeue and cancel runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel, Field

from scorebeat.api import keys, schemas
from scorebeat.api.bodies import JsonRoute
from scorebeat.api.errors import conflict, documented
from scorebeat.api.keys import PlainText
from scorebeat.api.schemas import Decision, Id, NewRun, WhatToRequeue
from scorebeat.api.service import BY, Served
from scorebeat.core.errors import NotAllowed, ServiceDown, UnknownName, UsageError
from scorebeat.core.settings import PREFIX
from scorebeat.core.states import RunState
from scorebeat.db.connect import database_clock
from scorebeat.db.ledger.failures import failure_groups
from scorebeat.db.ledger.failures.failure_groups import PLACE, Place
from scorebeat.db.ledger.runs import Selection
from scorebeat.db.reports import drift, results, status
from scorebeat.db.reports.forecasts import forecasts
from scorebeat.db.reports.pages import run_pages
from scorebeat.producer.costs import cost_report
from scorebeat.producer.requests import enqueue, release, run_request
from scorebeat.producer.requests import requeue as by_hand

reading = APIRouter(prefix="/runs", tags=["runs"])
"""Open to everybody if the settings allow it."""
closed = APIRouter(prefix="/runs", tags=["runs"], route_class=JsonRoute)
"""Always needs the token: what changes something, and tracebacks."""

_SAME: dict[str, Any] = {"model": schemas.Enqueued, "description": "The run_key had made this run before."}
RunId = Annotated[Id, Path(description="A run's number.")]


class RunsQuery(BaseModel):
    """Which runs."""

    job: PlainText | None = None
    state: list[RunState] = Field([], description="May be repeated; all states if left out.")
    before: Id | None = Field(None, description="Runs with a smaller number only.")
    limit: int = Field(50, ge=1, le=1000)


class FailuresQuery(BaseModel):
    """Which groups of failures."""

    after: str | None = Field(None, pattern=f"^{PLACE}$", description="`next` of the page before.")
    limit: int = Field(50, ge=1, le=1000)


@reading.get("")
def listing(service: Served, wanted: Annotated[RunsQuery, Query()]) -> schemas.Runs:
    """Runs, the newest first."""
    with results.reading(service.engine) as connection:
        found = run_pages.runs(
            connection, job=wanted.job, states=wanted.state, before=wanted.before, limit=wanted.limit + 1
        )
    shown = [schemas.Run.model_validate(line) for line in found[: wanted.limit]]
    return schemas.Runs(runs=shown, next=shown[-1].id if len(found) > wanted.limit else None)


@closed.post("", status_code=201, responses={200: _SAME, **documented(400, 403, 404, 409, 415)})
def new(service: Served, wanted: NewRun, response: Response) -> schemas.Enqueued:
    """Score the rows of a job that have no prediction yet. 200 when the run_key had made this run before."""
    if wanted.where is not None and not service.producer.settings.api_where:
        raise NotAllowed(
            "`where` is SQL, which reads whatever the server's role may read: it is taken over HTTP only where "
            f"{PREFIX}API_WHERE=true is set for the server. Name the rows by `keys`, or run "
            "`scorebeat enqueue --where` there; nothing was enqueued"
        )
    wanted_keys = tuple(keys.of_body(key) for key in wanted.keys) if wanted.keys is not None else None
    version = run_request.checked_version(service.producer, wanted.job, wanted.model, wanted.where, wanted_keys)
    selection = Selection(wanted.limit, wanted.where, wanted_keys)
    due_at = None
    if wanted.due_at is not None:
        due_at = run_request.time_of_job(service.producer, wanted.job, "due_at", wanted.due_at)
    request = enqueue.Request(wanted.job, BY, version, selection, wanted.run_key, due_at, wanted.parameters or {})
    made = enqueue.enqueue(service.producer, request)
    response.headers["Location"] = f"/runs/{made.run_id}"
    response.status_code = 201 if made.is_new else 200
    return schemas.Enqueued(run=made.run_id, is_new=made.is_new)


@reading.get("/{run}", responses=documented(404))
def one(service: Served, run: RunId) -> schemas.RunDetails:
    """A run, its speed, and its batches by state."""
    with results.reading(service.engine) as connection:
        line = status.get(connection, run)
        pace = run_pages.pace(connection, line)
        forecast = forecasts.of_runs(connection, [line])[run]
        left = forecast.left(database_clock.now(connection))
        states = status.batch_states(connection, run)
        cost = cost_report.of_run(connection, run)
    return schemas.RunDetails(
        **schemas.Run.model_validate(line).model_dump(),
        rows_a_second=pace,
        seconds_left=left.total_seconds() if left is not None else None,
        expected_end_at=forecast.likely,
        expected_earliest_at=forecast.earliest,
        expected_latest_at=forecast.latest,
        no_forecast=None if line.is_final else forecast.unknown,
        states=[schemas.BatchesInState.model_validate(row) for row in states],
        cost=schemas.Cost.of(cost),
    )


@closed.get("/{run}/drift", responses=documented(404))
def compared(service: Served, run: RunId) -> schemas.Compared:
    """How far the run's inputs and outputs are from the reference, by column, or why nothing was compared."""
    with results.reading(service.engine) as connection:
        found = drift.of_run(connection, run)
    findings = None
    if found.findings is not None:
        findings = [schemas.Finding.model_validate(finding.columns) for finding in found.findings]
    return schemas.Compared(
        run=found.run,
        rows=found.rows,
        reference=found.reference,
        compared_at=found.compared_at,
        why_not=found.why_not,
        findings=findings,
    )


@closed.get("/{run}/failures", responses=documented(404))
def failures(service: Served, run: RunId, query: Annotated[FailuresQuery, Query()]) -> schemas.Failures:
    """What failed in a run, grouped by error, the most frequent first."""
    with results.reading(service.engine) as connection:
        status.get(connection, run)
        beyond = Place.of(query.after) if query.after is not None else None
        found = failure_groups.page(connection, run, limit=query.limit + 1, after=beyond)
    groups = [schemas.FailureGroup.model_validate(group) for group in found[: query.limit]]
    following = str(found[query.limit - 1].place) if len(found) > query.limit else None
    return schemas.Failures(groups=groups, next=following)


async def _refuse_null_body(request: Request) -> None:
    """FastAPI takes a body `null` for no body, which means the whole run. The caller did not mean that."""
    try:
        body = await request.json() if await request.body() else {}
    except ValueError:  # FastAPI reports it
        return
    if body is None:
        raise HTTPException(422, "body: null is no value here; send nothing, or {}, to requeue the whole run")


@contextmanager
def _conflicts() -> Iterator[None]:
    """What the state of the run forbids is a conflict, and not a wrong request."""
    try:
        yield
    except (UnknownName, ServiceDown):
        raise
    except UsageError as error:
        raise conflict(error) from None


@closed.post("/{run}/requeue", responses=documented(400, 404, 409, 415), dependencies=[Depends(_refuse_null_body)])
def requeue(
    service: Served, run: RunId, what: Annotated[WhatToRequeue, Body(default_factory=WhatToRequeue)]
) -> schemas.Requeued:
    """Put dead batches and quarantined rows back: all, or those that match every field in the body.

    Safe to repeat, and by two people at once. A failed run with the policy `retry-run` comes back whole only: 409 if
    the body has a field.
    """
    with _conflicts():
        count = by_hand.requeue(service.producer, run, BY, batch_id=what.batch, error=what.error, group=what.group)
    return schemas.Requeued(run=run, batches=count)


@closed.post("/{run}/cancel", responses=documented(404))
def cancel(service: Served, run: RunId) -> schemas.Cancelled:
    """Stop an open run: what it scored stays, the rest is pending for the next run."""
    return schemas.Cancelled(run=run, cancelled=by_hand.cancel(service.producer, run, BY))


@closed.post("/{run}/release", responses=documented(400, 404, 409, 415))
def show(service: Served, run: RunId, decision: Annotated[Decision, Body(default_factory=Decision)]) -> schemas.Decided:
    """Show a held run to readers, although it did not pass the gate of its job. Recorded with `by` and `why`."""
    with _conflicts():
        release.release(service.producer, run, _by(decision), decision.why or "")
    return _decided(service, run)


@closed.post("/{run}/discard", responses=documented(400, 404, 409, 415))
def discard(
    service: Served, run: RunId, decision: Annotated[Decision, Body(default_factory=Decision)]
) -> schemas.Decided:
    """Drop what a held run scored; readers keep what they see. Recorded with `by` and `why`."""
    with _conflicts():
        release.discard(service.producer, run, _by(decision), decision.why or "")
    return _decided(service, run)


def _by(decision: Decision) -> str:
    """Who decided, as the ledger records it: the token alone names nobody."""
    return f"{decision.by} ({BY})" if decision.by is not None else BY


def _decided(service: Served, run: int) -> schemas.Decided:
    with results.reading(service.engine) as connection:
        line = status.get(connection, run)
    return schemas.Decided(run=run, state=line.state, reason=line.reason)
