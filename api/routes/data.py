"""`/data`: source rows and their stored predictions."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field
from sqlalchemy import Connection
from starlette.convertors import StringConvertor, register_url_convertor

from scorebeat.api import keys, responses, schemas
from scorebeat.api.errors import documented
from scorebeat.api.keys import PlainText
from scorebeat.api.service import Served, Service
from scorebeat.db.connect.sql import Key
from scorebeat.db.reports import results
from scorebeat.db.reports.pages import data_pages
from scorebeat.db.reports.pages.data_pages import Form, Page
from scorebeat.db.reports.results import Shape

MOST_ROWS = 10_000

router = APIRouter(prefix="/data", tags=["data"], responses=documented(400, 404, 409))

Reader = Callable[[Connection, Shape, Key | None, int, Form], Page]
JobName = Annotated[PlainText, Field(max_length=100)]
OF_JOB = "May be left out when there is one job only."


class PageQuery(BaseModel):
    """Which page."""

    job: JobName | None = Field(None, description=OF_JOB)
    after: Annotated[PlainText, Field(max_length=keys.LONGEST)] | None = Field(None, description=keys.AFTER)
    limit: int = Field(100, ge=1, le=MOST_ROWS)


@router.get("/all", response_model=schemas.AllPage, responses={200: responses.CSV_TOO})
def everything(service: Served, request: Request, query: Annotated[PageQuery, Query()]) -> Response:
    """Rows of the job's query, each with its published prediction or null; JSON or CSV."""
    return _page(service, request, query, data_pages.everything)


@router.get("/predicted", response_model=schemas.PredictedPage, responses={200: responses.CSV_TOO})
def predicted(service: Served, request: Request, query: Annotated[PageQuery, Query()]) -> Response:
    """Rows of the view `predictions.<job>`; JSON or CSV."""
    return _page(service, request, query, data_pages.predicted)


@router.get("/unpredicted", response_model=schemas.UnpredictedPage, responses={200: responses.CSV_TOO})
def unpredicted(service: Served, request: Request, query: Annotated[PageQuery, Query()]) -> Response:
    """Rows that wait for a prediction of the published version, without those in quarantine; JSON or CSV."""
    return _page(service, request, query, data_pages.unpredicted)


class _AnyText(StringConvertor):
    """A key may hold any character; Starlette's own `path` stops at the end of a line."""

    regex = "(?s:.*)"


register_url_convertor("any_text", _AnyText())


@router.get("/{key:any_text}", response_model=schemas.OneKey)
def one(
    service: Served,
    key: Annotated[str, Path(description="The key: plain text, or a JSON list of one element a key column.")],
    job: Annotated[JobName | None, Query(description=OF_JOB)] = None,
) -> Response:
    """The stored prediction of one key, or why there is none; 404 for a key that the job's query does not return."""
    parsed = keys.parse(key)
    found = service.lookup.find(job, parsed)
    values = {"job": found.job, "key": parsed, "state": found.state, "reason": found.reason}
    return responses.raw(values, prediction=found.prediction or "null")


def _page(service: Service, request: Request, query: PageQuery, read: Reader) -> Response:
    beyond = keys.parse(query.after) if query.after is not None else None
    form = responses.requested_form(request)
    with results.reading(service.engine) as connection:
        page = read(connection, results.shape(connection, query.job), beyond, query.limit, form)
    return responses.respond(request, page, form)
