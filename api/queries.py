"""Query parameters that an endpoint does not take are refused: the caller expects them to matter."""

from collections.abc import Callable
from typing import Any

from fastapi import Depends, HTTPException, Request
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from scorebeat.core.errors import near


async def _known(request: Request) -> None:
    """Async, so that it costs no thread."""
    known = _parameters(request.scope["route"])
    unknown = [name for name in dict.fromkeys(request.query_params) if name not in known]
    if unknown:
        where = f"{request.method} {request.url.path}"
        hint = near(unknown[0], known) if known else " It takes none: nothing was done."
        raise HTTPException(422, f"query.{unknown[0]}: {where} takes no such parameter.{hint}")


query_known = Depends(_known)


_of_endpoints: dict[Callable[..., Any], list[str]] = {}


def _parameters(route: APIRoute) -> list[str]:
    """The parameters in the route's description. Making it takes milliseconds, so each endpoint does it once."""
    if route.endpoint not in _of_endpoints:
        described: dict[str, Any] = get_openapi(title="one route", version="1", routes=[route])
        ((operation,),) = (path.values() for path in described["paths"].values())
        found = operation.get("parameters", ())
        _of_endpoints[route.endpoint] = [one["name"] for one in found if one["in"] == "query"]
    return _of_endpoints[route.endpoint]
