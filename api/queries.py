"""Query parameters that an endpoint does not take: refused, as who sends them expects them to matter."""

from typing import Any

from fastapi import Depends, HTTPException, Request

from scorebeat.core.errors import near


async def _known(request: Request) -> None:
    """Async, so that it costs no thread."""
    known = _parameters(request)
    unknown = [name for name in dict.fromkeys(request.query_params) if name not in known]
    if unknown:
        where = f"{request.method} {request.url.path}"
        raise HTTPException(422, f"query.{unknown[0]}: {where} takes no such parameter.{_hint(unknown[0], known)}")


query_known = Depends(_known)


def _parameters(request: Request) -> list[str]:
    """As the description shows them; it is made once."""
    operation: dict[str, Any] = request.app.openapi()["paths"][_path(request)][request.method.lower()]
    return [one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"]


def _path(request: Request) -> str:
    path: str = request.scope["route"].path_format
    return path


def _hint(name: str, known: list[str]) -> str:
    return near(name, known) if known else " It takes none: nothing was done."
