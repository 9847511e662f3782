"""Libraries of models, imported by the worker's parent: its processes are forked with them, and share their memory."""

import logging
from collections.abc import Sequence
from typing import Any

from celery import bootsteps
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import ScorebeatError, one_line
from scorebeat.core.events import emit
from scorebeat.db.ledger import model_versions
from scorebeat.models.formats import registry
from scorebeat.worker.lifecycle.connection import ledger
from scorebeat.worker.lifecycle.devices import device

SHARED = ("skops",)
"""Formats whose library runs no user's code, starts no thread and uses no GPU: after its import a process may fork."""


class Preload(bootsteps.Step):  # type: ignore[misc]  # Celery publishes no types
    """Celery creates all steps before it starts the first one, and the pool forks its processes when it starts."""

    def create(self, parent: Any) -> None:
        if not device.current().is_gpu:  # its processes are spawned, and share nothing
            preload(sorted(parent.app.amqp.queues.consume_from))


def preload(queues: Sequence[str]) -> None:
    """Import the libraries that models of jobs on these queues need.

    What cannot be imported here, each process imports when it loads such a model.
    """
    try:
        with ledger() as connection:
            formats = model_versions.formats_on(connection, queues)
        for name in formats & set(SHARED):
            registry.preload(name)
            emit("library.preloaded", format=name)
    except (DBAPIError, ScorebeatError) as error:
        emit("library.not_preloaded", logging.WARNING, reason=one_line(error))
