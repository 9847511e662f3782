"""kombu's Redis transport as Flower reads from it: what is neither an event nor an answer is logged and dropped."""

from kombu.transport import redis

from scorebeat.broker.guard.commands import answer_fault
from scorebeat.broker.guard.envelope import envelope_fault, opened
from scorebeat.broker.guard.flower_events import event_fault
from scorebeat.broker.guard.transport import Channel as WorkerChannel

LONGEST_ANSWER = 4 * 1024 * 1024
"""Bytes of what a worker says of itself: its settings, or the tasks that it has in progress."""
EVENTS = "celeryev"
"""The exchange, which a channel of events has in its name."""


class Channel(WorkerChannel):
    """Looks at each event and each worker's answer before kombu and Celery do."""

    def fault(self, place: str, raw: bytes | str) -> str | None:
        """Why it is dropped; None for an event or an answer as Celery's workers send them."""
        reason = envelope_fault(raw, LONGEST_ANSWER)
        if reason is not None:
            return reason
        headers, body = opened(raw)
        if EVENTS not in place:
            return answer_fault(headers, body)
        return next(filter(None, map(event_fault, body if isinstance(body, list) else [body])), None)


class Transport(redis.Transport):
    """Of all connections of Flower's process."""

    Channel = Channel
