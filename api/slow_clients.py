"""How long the server waits for a whole request: a client cannot hold a connection for ever with half of one."""

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEAD_WITHIN = 10.0
"""Seconds from a request's first byte, or from the start of the connection, to the end of its headers."""
BODY_WITHIN = 60.0
"""Seconds for its body, whose size is limited."""


class Patient(AutoHTTPProtocol):  # type: ignore[misc,valid-type]  # uvicorn chooses the class when it is imported
    """uvicorn's protocol closes a connection that is idle between two requests. This one also closes a connection
    that sends only half of its first request."""

    def connection_made(self, transport: Any) -> None:
        self._late: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._start_timer()
        else:
            self._stop_timer()

    def on_response_complete(self) -> None:
        self._stop_timer()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(HEAD_WITHIN, self.transport.close)

    def _stop_timer(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
