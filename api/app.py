"""The HTTP API as an ASGI application."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from api import data, errors, health, metrics, predict, runs
from api.gate import Gate, token_needed
from api.service import Service
from core.events import emit
from core.settings import PREFIX, Settings

ABOUT = (
    "Stored predictions, runs and online predictions. Every answer that is no success is an object with the one "
    "text `error`. All but /health and /ready take the token as `Authorization: Bearer TOKEN`."
)


def make(settings: Settings) -> FastAPI:
    """The application; it connects when first asked, and closes its connections when it is stopped."""
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
        description=ABOUT,
        lifespan=lifespan,
        redirect_slashes=False,  # a key may end with one
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
    )
    app.state.service = service
    app.state.routers = (health.router, metrics.router, data.router, runs.router, predict.router)
    app.include_router(health.router, responses=errors.documented(500))
    guarded = errors.documented(401, 403, 413, 422, 500, 503)
    of_readers = [] if settings.api_read_public else [token_needed]
    for router in (metrics.router, data.router):
        app.include_router(router, dependencies=of_readers, responses=guarded)
    for router in (runs.router, predict.router):
        app.include_router(router, dependencies=[token_needed], responses=guarded)
    errors.install(app)
    app.add_middleware(Gate, settings=settings)
    return app
