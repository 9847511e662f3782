"""kombu's Redis transport as Flower reads from it: what is neither an event nor a reply is logged and dropped."""

from kombu.transport import redis

from scorebeat.broker.guard.commands import reply_fault
from scorebeat.broker.guard.envelope import envelope_fault, opened
from scorebeat.broker.guard.flower_events import event_fault
from scorebeat.broker.guard.transport import Channel as WorkerChannel

LONGEST_REPLY = 4 * 1024 * 1024
"""Bytes of a worker's reply: its settings, or the tasks that it has in progress."""
EVENTS = "celeryev"
"""The exchange, which is a part of the name of each channel of events."""


class Channel(WorkerChannel):
    """Checks each event and each worker's reply before kombu and Celery open it."""

    def fault(self, source: str, raw: bytes | str) -> str | None:
        """Why the message is dropped; None for an event or a reply as Celery's workers send them."""
        reason = envelope_fault(raw, LONGEST_REPLY)
        if reason is not None:
            return reason
        headers, body = opened(raw)
        if EVENTS not in source:
            return reply_fault(headers, body)
        return next(filter(None, map(event_fault, body if isinstance(body, list) else [body])), None)


class Transport(redis.Transport):
    """The transport of all connections of Flower's process."""

    Channel = Channel
