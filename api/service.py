"""What every endpoint needs: settings, the producer for what writes, and connections for what reads."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Engine

from scorebeat.api.slots import Slots
from scorebeat.core.process.descriptors import Sentinel
from scorebeat.core.settings import Settings
from scorebeat.db.connect.engine import make_engine
from scorebeat.db.reports import results
from scorebeat.db.reports.lookup import Lookup
from scorebeat.online.predictor import Predictor
from scorebeat.producer.context import Producer

READERS = 16
"""Connections that are kept for reading; two more are opened when these are busy."""
BY = "api"
"""The name that is recorded for what a request did."""


@dataclass(frozen=True)
class Service:
    """Connects when it is first used; call `close` at the end."""

    settings: Settings
    producer: Producer = field(init=False)
    sentinel: Sentinel = field(default_factory=Sentinel, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "producer", Producer(self.settings, BY))

    @cached_property
    def engine(self) -> Engine:
        return make_engine(self.settings.database(), "scorebeat api", pool_size=READERS, patience=results.PATIENCE)

    @cached_property
    def lookup(self) -> Lookup:
        return Lookup(self.engine)

    @cached_property
    def slots(self) -> Slots:
        return Slots(self.settings.row_time_limit)

    @cached_property
    def online(self) -> Predictor:
        return Predictor(self.producer)

    def close(self) -> None:
        self.producer.close()
        if "engine" in self.__dict__:
            self.engine.dispose()


async def _of_app(request: Request) -> Service:
    """Async, so that it costs no thread."""
    service: Service = request.app.state.service
    return service


Served = Annotated[Service, Depends(_of_app)]
"""The service as an endpoint takes it."""
