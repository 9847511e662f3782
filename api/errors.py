"""Each failure as one response: a status and `{"error": "..."}`."""

import logging
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Match

from scorebeat.core.errors import (
    InputError,
    NonsenseError,
    NotAllowed,
    NotPermitted,
    QueryError,
    RunHeld,
    RunOpen,
    ScorebeatError,
    ServiceDown,
    SettingsError,
    SourceLocked,
    StoreError,
    UnknownName,
    UsageError,
    one_line,
)
from scorebeat.core.events import emit
from scorebeat.core.urls import redact
from scorebeat.db.connect import database_errors
from scorebeat.db.connect.database_errors import sqlstate

RETRY_AFTER = {"Retry-After": "5"}
"""Seconds; a restart of PostgreSQL takes about so long."""
MOST_MISTAKES = 8
AWAY = "the database does not answer; nothing was changed. Try again in a few seconds"
TOO_LONG = "the database took too long over this and gave up; nothing was changed. Ask for less, or try again"
NOT_JSON = "the body is not declared as JSON; expected the header 'Content-Type: application/json'"
UNREADABLE = "the body is not JSON in UTF-8, is nested too deeply, or holds a number of thousands of digits"
ONE_OF_SEVERAL = "expected a text, a whole number, or a list of them"
BUSY = "all connections to the database are busy; nothing was changed. Try again in a few seconds"

_STATUSES: tuple[tuple[type[ScorebeatError], int], ...] = (
    (UnknownName, 404),
    (RunOpen, 409),
    (RunHeld, 409),
    (QueryError, 409),  # the job's query, not the request, is at fault
    (NotAllowed, 403),
    (SettingsError, 500),
    (NotPermitted, 500),
    (StoreError, 500),
    (UsageError, 400),
    (InputError, 400),
    (NonsenseError, 400),
)
"""The first that fits; 500 otherwise."""
_GAVE_UP = frozenset({"57014", "55P03"})
"""Statement time-out, lock time-out."""


class Error(BaseModel):
    """What went wrong, and what was expected."""

    error: str


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error responses of an endpoint, for its description."""
    headers = {401: "WWW-Authenticate", 503: "Retry-After"}
    responses: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        responses[status] = {"model": Error, "description": _MEANINGS[status]}
        if status in headers:
            responses[status]["headers"] = {headers[status]: {"schema": {"type": "string"}}}
    return responses


def error_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The response. A lone surrogate, which UTF-8 cannot encode, is shown by its number."""
    return JSONResponse({"error": message.encode("utf-8", "backslashreplace").decode()}, status, headers)


def install(app: FastAPI) -> None:
    """Turn every failure into a response of this module."""
    app.add_exception_handler(ScorebeatError, _ours)
    app.add_exception_handler(DBAPIError, _database)
    app.add_exception_handler(PoolTimeout, _busy)
    app.add_exception_handler(StarletteHTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _unforeseen)


async def _ours(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, ServiceDown):
        return _away(request, error)
    if isinstance(error, SourceLocked):
        return error_response(503, redact(str(error)), RETRY_AFTER)
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
    if status == 500:
        emit("api.failed", logging.ERROR, path=request.url.path, reason=str(error))
    return error_response(status, redact(str(error)))


async def _database(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DBAPIError)  # noqa: S101 -- as installed
    if ((error.orig is not None and sqlstate(error.orig)) or "") in _GAVE_UP:
        return error_response(503, TOO_LONG, RETRY_AFTER)
    not_connected = isinstance(error, OperationalError) and error.statement is None
    if not_connected or error.connection_invalidated or database_errors.is_transient(error):
        return _away(request, error)
    logged = None if database_errors.quotes_values(error) else error
    emit(
        "api.failed", logging.ERROR, path=request.url.path, reason=one_line(database_errors.message(error)), exc=logged
    )
    return error_response(500, f"PostgreSQL refused it: {one_line(database_errors.message(error))}")


def _away(request: Request, error: Exception) -> JSONResponse:
    """The reason names hosts and users, which readers need not know."""
    emit("api.database_away", logging.WARNING, path=request.url.path, reason=one_line(error)[:500])
    return error_response(503, AWAY, RETRY_AFTER)


async def _busy(_request: Request, _error: Exception) -> JSONResponse:
    return error_response(503, BUSY, RETRY_AFTER)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)  # noqa: S101 -- as installed
    if error.status_code == 405:
        # Starlette names the methods of the path's first route alone
        routes = [route for router in request.app.state.routers for route in router.routes]
        matching = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
        methods = {method for route in matching for method in getattr(route, "methods", None) or ()}
        allowed = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
        return error_response(405, f"{request.url.path} takes {allowed}, not {request.method}", {"Allow": allowed})
    messages = {404: f"there is no path {request.url.path}; /openapi.json lists those that there are", 400: UNREADABLE}
    if error.status_code in messages:  # ours are UnknownName and UsageError
        return error_response(error.status_code, messages[error.status_code])
    return error_response(error.status_code, str(error.detail), error.headers)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 -- as installed
    if isinstance(error.body, bytes):  # FastAPI did not take it for JSON
        return error_response(415, NOT_JSON)
    mistakes = list(dict.fromkeys(map(_mistake, error.errors())))
    more = f"; and {len(mistakes) - MOST_MISTAKES} more" if len(mistakes) > MOST_MISTAKES else ""
    return error_response(422, "; ".join(mistakes[:MOST_MISTAKES]) + more)


async def _unforeseen(_request: Request, _error: Exception) -> JSONResponse:
    """The server's log has it with its traceback."""
    return error_response(500, "something failed that was not foreseen; the server's log has it")


def _mistake(error: Mapping[str, Any]) -> str:
    """Where the mistake is, what was expected and what was found."""
    parts = [str(part) for part in error["loc"]]
    plain = list(takewhile(lambda part: not part.startswith(("union[", "list[")), parts))
    path, expected = ".".join(plain), error["msg"] if plain == parts else ONE_OF_SEVERAL
    if error["type"] == "json_invalid":
        return f"the body is not JSON: {error['ctx']['error']} at character {error['loc'][-1]}"
    value = error.get("input")
    shown = f", got {value!r:.60}" if isinstance(value, str | int | float) else ""
    return f"{path}: {expected}{shown}"


def conflict(error: UsageError) -> HTTPException:
    """409: the request is valid, and the state of the job or run forbids it."""
    return HTTPException(409, redact(str(error)))


_MEANINGS = {
    400: "The request is well formed, and PostgreSQL or the model cannot use a value in it.",
    401: "No token, or a wrong one, or the server has none.",
    403: "The server's settings do not allow it.",
    404: "There is no such thing.",
    409: "The state of the job or run forbids it.",
    413: "The body is too large.",
    415: "The body is not declared as JSON.",
    422: "The request is not as described here.",
    500: "A failure of the server; its log has it.",
    503: "The database or the model does not answer, or took too long.",
}
