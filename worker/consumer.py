"""Celery's consumer, kept from dying twice and from falling asleep: docs/decisions/0003-celery-5-7-with-a-shim.md."""

from collections.abc import Callable
from functools import partial
from logging import Logger
from typing import Any, TypeAlias

from celery.worker.consumer import Consumer as CeleryConsumer
from kombu.exceptions import ContentDisallowed, DecodeError
from kombu.message import Message

Errors: TypeAlias = tuple[type[Exception], ...]


class Consumer(CeleryConsumer):  # type: ignore[misc]  # Celery publishes no types
    """Survives a broker that restarts while a task is unacknowledged, and a message that is no task.

    Celery 5.7.0 closes the broken connection at once; closing restores unacknowledged messages through
    that same connection, which is torn down already, and the AttributeError ends the worker. Dropping
    the connection without closing it loses nothing: the socket is collected before, and the messages
    come back by the visibility timeout or by the ledger.

    Celery unpacks a message's body without a look at it; the ValueError ends the worker, the message goes
    back to the queue, and ends the next one.

    Celery logs an acknowledgement that fails, and goes on. The message then counts as in hand until the connection
    is lost, which a silent one never is: with one process, the worker takes no message again.
    """

    def on_connection_error_after_connected(self, exc: BaseException) -> None:
        if self.connection is not None:
            self.connection.close = _nothing
        super().on_connection_error_after_connected(exc)

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Message], None]:
        handle = super().create_task_handler(*args, **options)

        def on_task_received(message: Message) -> None:
            if _is_task(message):
                acknowledge = partial(self._acknowledge, message, self.connection)
                message.ack_log_error = acknowledge  # type: ignore[method-assign]  # Celery calls it by this name
                handle(message)
            else:
                self.on_unknown_message(None, message)  # logs and drops it

        return on_task_received

    def _acknowledge(
        self, message: Message, came_by: object, logger: Logger, errors: Errors, multiple: bool = False
    ) -> None:
        """Raises an error of the connection, which Celery then makes anew; unless it has done so since."""
        try:
            message.ack(multiple=multiple)
        except errors as error:
            logger.warning("Couldn't ack %r: %s. If it comes again it will be skipped.", message.delivery_tag, error)
            if self.connection is came_by:
                raise


def _is_task(message: Message) -> bool:
    """The body is `[args, kwargs, embedded]`, as Celery's second message protocol has it."""
    try:
        body = message.payload
    except (ContentDisallowed, DecodeError):
        return True  # Celery refuses these by itself
    return isinstance(body, list) and list(map(type, body)) == [list, dict, dict]


def _nothing() -> None:
    """The connection is broken; its socket was collected."""
