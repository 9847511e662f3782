"""The HTTP API as an ASGI application."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from scorebeat.api import errors
from scorebeat.api.auth import Gate, token_needed
from scorebeat.api.bodies import body_known
from scorebeat.api.queries import query_known
from scorebeat.api.routes import costs, data, health, jobs, metrics, predict, runs
from scorebeat.api.service import Service
from scorebeat.core.events import emit
from scorebeat.core.settings import PREFIX, Settings

ABOUT = (
    "Stored predictions, runs and online predictions. Every response that is not a success is an object with the one "
    "text `error`. "
)
CLOSED = "All but /health and /ready take the token as `Authorization: Bearer TOKEN`."
PUBLIC = "What writes, scores or shows failures takes the token as `Authorization: Bearer TOKEN`; the rest is open."
_usual = errors.documented(413, 422, 500, 503)


def make(settings: Settings) -> FastAPI:
    """The application. It connects at the first request, and closes its connections when it is stopped."""
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if settings.api_token is None:
            emit("api.closed", logging.WARNING, reason=f"{PREFIX}API_TOKEN is not set")
        yield
        service.close()

    app = FastAPI(
        title="Scorebeat",
        version=version("scorebeat"),
        description=ABOUT + (PUBLIC if settings.api_read_public else CLOSED),
        lifespan=lifespan,
        dependencies=[query_known, body_known],
        redirect_slashes=False,  # a key may end with one
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
    )
    app.state.service = service
    reading = (metrics.router, data.router, jobs.reading, runs.reading, costs.reading)
    closed = (runs.closed, predict.router)
    app.state.routers = (health.router, *reading, *closed)
    app.include_router(health.router, responses=errors.documented(422, 500))
    for router in (*reading, *closed):
        if router in reading and settings.api_read_public:
            app.include_router(router, responses=_usual)
        else:
            app.include_router(router, dependencies=[token_needed], responses=_usual | errors.documented(401))
    errors.install(app)
    app.add_middleware(Gate, settings=settings)
    return app
