"""Bodies whose content would be ignored, in whole or in part: refused, as who sends it expects it to matter."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Depends, HTTPException, Request, Response
from fastapi.routing import APIRoute

from scorebeat.api.queries import described
from scorebeat.core.text.json_input import RepeatedKey, read_json


class JsonRequest(Request):
    """Its body is JSON in which no key stands twice."""

    async def json(self) -> Any:
        if not hasattr(self, "parsed"):
            self.parsed = _json(await self.body())
        return self.parsed


class JsonRoute(APIRoute):
    """Reads its body by `JsonRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def read_and_handle(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return read_and_handle


async def _refuse_ignored_body(request: Request) -> None:
    """Async, so that it costs no thread."""
    body = await request.body()
    if not body or "requestBody" in described(request.scope["route"]):
        return
    try:
        is_empty = _json(body) == {}
    except ValueError:
        is_empty = False
    if not is_empty:
        raise HTTPException(422, f"body: {request.method} {request.url.path} takes none. Nothing was done")


body_known = Depends(_refuse_ignored_body)


def _json(body: bytes) -> Any:
    try:
        return read_json(body)
    except RepeatedKey as error:
        raise HTTPException(422, f"body.{error}") from None
