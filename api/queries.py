"""Query parameters that an endpoint does not take, or takes once, are refused: the caller expects them to matter."""

from collections.abc import Callable
from typing import Any

from fastapi import Depends, HTTPException, Request
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from scorebeat.core.errors import near


async def _refuse_unknown_parameters(request: Request) -> None:
    """Async, so that it costs no thread."""
    parameters = described(request.scope["route"]).get("parameters", ())
    # each name, with whether the parameter may be repeated
    known = {one["name"]: one["schema"].get("type") == "array" for one in parameters if one["in"] == "query"}
    unknown = [name for name in dict.fromkeys(request.query_params) if name not in known]
    if unknown:
        where = f"{request.method} {request.url.path}"
        hint = near(unknown[0], list(known)) if known else " It takes none: nothing was done."
        raise HTTPException(422, f"query.{unknown[0]}: {where} takes no such parameter.{hint}")
    for name, may_repeat in known.items():
        times = len(request.query_params.getlist(name))
        if times > 1 and not may_repeat:
            raise HTTPException(422, f"query.{name} stands {times} times; {request.url.path} takes it once")


query_known = Depends(_refuse_unknown_parameters)


_of_endpoints: dict[Callable[..., Any], dict[str, Any]] = {}


def described(route: APIRoute) -> dict[str, Any]:
    """The route's operation in OpenAPI, which takes milliseconds to make: once for each endpoint."""
    if route.endpoint not in _of_endpoints:
        whole: dict[str, Any] = get_openapi(title="one route", version="1", routes=[route])
        ((_of_endpoints[route.endpoint],),) = (path.values() for path in whole["paths"].values())
    return _of_endpoints[route.endpoint]
