"""The HTTP API on a port of its own, in a thread of the test's process, over a real ledger with a real run in it."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Thread
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from scorebeat.api.app import make
from scorebeat.core.settings import Settings
from tests.support.ledger_fixtures import FILL, Ledger
from tests.support.ledger_rows import a_job

TOKEN = "a-token-of-enough-letters"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
SCORED, PENDING = 25, 5
"""Rows 1 to 25 have predictions, 26 to 30 have none."""

Client = httpx.Client
TRUSTED = httpx.create_ssl_context()
"""One for all clients: it takes longer to make than most tests."""
Opener = Callable[..., Client]


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The URL of the application while a real server serves it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def opened(settings: Settings) -> Iterator[Opener]:
    """`opened(api_read_public=True)`: a client of an API with these settings; it sends the token by default."""
    with ExitStack() as stack:

        def open_one(headers: dict[str, str] = BEARER, **options: Any) -> Client:
            options = {"api_token": SecretStr(TOKEN), "api_where": True, **options}
            url = stack.enter_context(served(make(settings.model_copy(update=options))))
            return stack.enter_context(Client(base_url=url, headers=headers, timeout=30, verify=TRUSTED))

        yield open_one


@pytest.fixture
def client(opened: Opener) -> Client:
    """The API with its token."""
    return opened()


@pytest.fixture
def scored(ledger: Ledger) -> Ledger:
    """The job `flowers_job`: 25 rows are scored, 5 came later."""
    ledger.sql(FILL.format(first=1, last=SCORED))
    ledger.scored(a_job())
    ledger.sql(FILL.format(first=SCORED + 1, last=SCORED + PENDING))
    return ledger


def walk(client: Client, path: str, **parameters: Any) -> list[dict[str, Any]]:
    """All pages, one after the other."""
    rows: list[dict[str, Any]] = []
    page = client.get(path, params=parameters).raise_for_status()
    while True:
        rows += page.json()["rows"]
        if page.json()["next"] is None:
            assert "next" not in page.links
            return rows
        page = client.get(page.links["next"]["url"]).raise_for_status()


def numbers(rows: list[dict[str, Any]]) -> list[int]:
    return [int(row["key"][0]) for row in rows]
