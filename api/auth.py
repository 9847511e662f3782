"""Checks before a request is read: its token is valid, and its body is not too large."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from hmac import compare_digest

from fastapi import Security
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scorebeat.api.errors import error_response
from scorebeat.api.slow_clients import BODY_WITHIN
from scorebeat.core.settings import PREFIX, Settings

OPEN = frozenset({"/health", "/ready", "/openapi.json"})
PUBLIC = re.compile(r"/data/.*|/jobs|/runs|/runs/[^/]+|/costs|/metrics", re.DOTALL)
"""What public reading opens. Failures stay closed: a traceback shows a server's files, and an example shows a key."""
WRITING = ("POST", "/runs")
"""The one request on those paths that changes something. Methods that they do not take get 405."""

token_needed = Security(HTTPBearer(auto_error=False, description=f"The server's {PREFIX}API_TOKEN."))
"""For the description alone: `Gate` requires the token, on every path that is not open."""


class Gate:
    """Responds 401 before a byte of the body is read, and 413 as soon as the body is too long."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._token = settings.api_token.get_secret_value().encode() if settings.api_token else None
        self._read_public = settings.api_read_public
        self._most = settings.api_max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # handled as GET; the server leaves out the body
            scope = {**scope, "method": "GET"}
        headers = Headers(scope=scope)
        refusal = self._unauthorised(scope, headers)
        announced = headers.get("content-length", "")
        if refusal is None and announced.isdecimal() and int(announced) > self._most:
            refusal = self._too_large()
        if refusal is None:
            try:
                async with asyncio.timeout(BODY_WITHIN):
                    whole = await self._body(receive)
            except TimeoutError:
                refusal = error_response(
                    408, f"the body did not come within {BODY_WITHIN:g} s", {"Connection": "close"}
                )
            else:
                if whole is not None:
                    await self._app(scope, whole, send)
                    return
                refusal = self._too_large()
        await refusal(scope, receive, send)

    def _unauthorised(self, scope: Scope, headers: Headers) -> Response | None:
        method, path = scope["method"], scope["path"]
        is_public = self._read_public and PUBLIC.fullmatch(path) and (method, path) != WRITING
        if path in OPEN or is_public:
            return None
        kind, _, token = headers.get("authorization", "").partition(" ")
        if self._token is None:
            reason, expected = "the server has no token", f"set {PREFIX}API_TOKEN where it runs, and send it then"
        elif kind.lower() == "bearer" and compare_digest(token.strip().encode("latin-1"), self._token):
            return None
        else:
            reason = "no token was sent" if not kind else "this is not the server's token"
            expected = f"expected the header 'Authorization: Bearer TOKEN' with the server's {PREFIX}API_TOKEN"
        return error_response(401, f"{reason}; {expected}", {"WWW-Authenticate": "Bearer"})

    def _too_large(self) -> Response:
        # what is left of the body is not read: the connection cannot be used again
        return error_response(
            413, f"the body has more than {self._most:,} bytes; send less at once", {"Connection": "close"}
        )

    async def _body(self, receive: Receive) -> Callable[[], Awaitable[Message]] | None:
        """The body, read whole, as the application receives it; None when it is too long."""
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return _first(message, receive)
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._most:
                return None
            more = message.get("more_body", False)
        return _first({"type": "http.request", "body": b"".join(parts), "more_body": False}, receive)


def _first(message: Message, receive: Receive) -> Callable[[], Awaitable[Message]]:
    waiting = [message]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again
