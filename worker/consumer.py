"""Celery's consumer with two ways of dying closed: see docs/decisions/0003-celery-5-7-with-a-shim.md."""

from collections.abc import Callable
from typing import Any

from celery.worker.consumer import Consumer as CeleryConsumer
from kombu.exceptions import ContentDisallowed, DecodeError
from kombu.message import Message


class Consumer(CeleryConsumer):  # type: ignore[misc]  # Celery publishes no types
    """Survives a broker that restarts while a task is unacknowledged, and a message that is no task.

    Celery 5.7.0 closes the broken connection at once; closing restores unacknowledged messages through
    that same connection, which is torn down already, and the AttributeError ends the worker. Dropping
    the connection without closing it loses nothing: the socket is collected before, and the messages
    come back by the visibility timeout or by the ledger.

    Celery unpacks a message's body without a look at it; the ValueError ends the worker, the message goes
    back to the queue, and ends the next one.
    """

    def on_connection_error_after_connected(self, exc: BaseException) -> None:
        if self.connection is not None:
            self.connection.close = _nothing
        super().on_connection_error_after_connected(exc)

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Message], None]:
        handle = super().create_task_handler(*args, **options)

        def on_task_received(message: Message) -> None:
            if _is_task(message):
                handle(message)
            else:
                self.on_unknown_message(None, message)  # logs and drops it

        return on_task_received


def _is_task(message: Message) -> bool:
    """The body is `[args, kwargs, embedded]`, as Celery's second message protocol has it."""
    try:
        body = message.payload
    except (ContentDisallowed, DecodeError):
        return True  # Celery refuses these by itself
    return isinstance(body, list) and list(map(type, body)) == [list, dict, dict]


def _nothing() -> None:
    """The connection is broken; its socket was collected."""
