"""Celery's consumer without three faults that end or stall a worker: docs/decisions/0003-celery-5-7-with-a-shim.md."""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from logging import Logger, getLogger
from typing import Any, TypeAlias

from celery.worker.consumer import Consumer as CeleryConsumer
from kombu.message import Message
from redis.exceptions import ResponseError

from scorebeat.broker.guard.envelope import keep_ours, task_fault
from scorebeat.broker.guard.transport import Transport, refuse
from scorebeat.core.errors import one_line
from scorebeat.core.events import emit

LONGEST_REASON = 300
"""Characters of an error that are logged; redis-py quotes the whole command."""
EVENTS_EVERY = 0.2
"""Seconds in which events of tasks are collected to be sent in one message; Celery would send each by itself."""

Errors: TypeAlias = tuple[type[Exception], ...]


class Consumer(CeleryConsumer):  # type: ignore[misc]  # Celery publishes no types
    """Survives a broker that restarts while a task is unacknowledged, and a message that is no task.

    Celery 5.7.0 closes the broken connection at once; closing restores unacknowledged messages through
    that same connection, which is torn down already, and the AttributeError ends the worker. Dropping
    the connection without closing it loses nothing: the socket is collected before, and the messages
    come back by the visibility timeout or by the ledger.

    Celery and kombu open a message without checking it: one that lacks a part ends the worker, one that is compressed
    fills its memory, and one may name tasks to send, lift time limits or wait in memory for years. `Transport` and
    `task_fault` check it first; a message that is not ours is logged and dropped.

    Workers do not exchange events: nothing here needs them, and a forged event ends a worker that listens.

    Celery logs an acknowledgement that fails, and goes on. The message then counts as in progress until the connection
    is lost, which a silent one never is: with one process, the worker takes no message again.
    """

    def __init__(self, *args: Any, worker_options: Mapping[str, Any] | None = None, **options: Any) -> None:
        no_events = {"without_gossip": True, "without_mingle": True}
        super().__init__(*args, worker_options={**(worker_options or {}), **no_events}, **options)
        self._events_due = 0.0

    def connection_for_read(self, heartbeat: float | None = None) -> Any:
        made = self.app.connection_for_read(heartbeat=heartbeat)
        made.get_transport_cls = lambda: Transport  # a transport named in the URL overrides any other
        return self.ensure_connected(made)

    def on_connection_error_after_connected(self, exc: BaseException) -> None:
        if isinstance(exc, ResponseError):  # Celery logs the kind of error, not what was refused
            emit("broker.refuses", logging.WARNING, reason=one_line(exc)[:LONGEST_REASON])
        if self.connection is not None:
            self.connection.close = lambda: None  # it is broken, and its socket was collected
        super().on_connection_error_after_connected(exc)

    def on_send_event_buffered(self) -> None:
        """Send the event together with those that follow soon.

        By the clock, not a flag: the hub forgets its timers when a connection breaks.
        """
        if self.hub and time.monotonic() >= self._events_due:
            self._events_due = time.monotonic() + EVENTS_EVERY
            self.hub.call_later(EVENTS_EVERY, self._flush_events)

    def cancel_active_requests(self) -> None:
        """The worker stops, and nothing else sends the events of the tasks that it gives up."""
        super().cancel_active_requests()
        with suppress(*self.connection_errors):
            self._flush_events()

    def shutdown(self) -> None:
        with suppress(*self.connection_errors):
            self._flush_events()
        super().shutdown()

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Message], None]:
        handle = super().create_task_handler(*args, **options)

        def on_task_received(message: Message) -> None:
            fault = task_fault(message, self.app.tasks)
            if fault is None:
                keep_ours(message)
                acknowledge = partial(self._acknowledge, message, self.connection)
                message.ack_log_error = acknowledge  # type: ignore[method-assign]  # Celery calls it by this name
                handle(message)
            else:
                refuse(str(message.delivery_info.get("routing_key")), fault)
                message.reject_log_error(getLogger(__name__), self.connection_errors)

        return on_task_received

    def _acknowledge(
        self, message: Message, received_on: object, logger: Logger, errors: Errors, multiple: bool = False
    ) -> None:
        """Acknowledge. Raises an error of the connection, which Celery then replaces, unless it was replaced since."""
        try:
            message.ack(multiple=multiple)
        except errors as error:
            logger.warning("Couldn't ack %r: %s. If it comes again it will be skipped.", message.delivery_tag, error)
            if self.connection is received_on:
                raise
