"""A real HTTP server that a job's notices go to, and their rows in the ledger."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from sqlalchemy import Engine, text

from scorebeat.core.settings import Settings
from tests.support.cli_fixtures import JOB, Cli


@dataclass
class Receiver:
    """A real HTTP server; `respond` is called with each request's handler and sends the response."""

    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    respond: Callable[[BaseHTTPRequestHandler], None] = field(default=lambda h: status(h, 204))
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def events(self) -> list[str]:
        return [json.loads(body)["event"] for _, _, body in self.got]


def status(handler: BaseHTTPRequestHandler, code: int, **headers: str) -> None:
    handler.send_response(code)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a port of its own; programs that are started in the block reach it without a proxy."""
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            made.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, content))
            made.respond(self)

        def do_GET(self) -> None:
            """A redirect that was followed would come as this."""
            made.got.append((self.path, {}, b"{}"))
            made.respond(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NO_PROXY", "127.0.0.1")
            yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def notified(scorebeat: Cli, job: str, settings: Settings, receiver: Receiver) -> str:
    """The job `sums`, with the receiver's address."""
    settings.jobs.write_text(f'{JOB}notify = "{receiver.url}"\n')
    assert scorebeat("apply").exit_code == 0
    return job


def rows_of(engine: Engine) -> list[tuple[str, int, bool, bool, str | None]]:
    """Event, attempts, whether delivered, whether given up, and error of each notice."""
    with engine.connect() as connection:
        statement = (
            "SELECT event, attempts, delivered_at IS NOT NULL, given_up_at IS NOT NULL, error"
            " FROM scorebeat.notices ORDER BY id"
        )
        return [tuple(row) for row in connection.execute(text(statement))]


def due_now(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE scorebeat.notices SET due_at = now()"))


def logged_events(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    """Fields of the events of this name; `caplog` must listen to the level INFO of `scorebeat`."""
    return [r.__dict__["scorebeat_fields"] for r in caplog.records if r.__dict__.get("scorebeat_event") == event]
