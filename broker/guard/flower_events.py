"""The events that Flower takes in: anybody on the broker may send any; those that Celery never sends are dropped."""

from collections.abc import Callable
from typing import Any

from flower.events import EventsState

from scorebeat.broker.guard.envelope import is_count, is_word
from scorebeat.core.urls import redact

LATEST = 10.0**11
"""Seconds since 1970; a calendar has no later times."""

TASKS = frozenset("task-" + kind for kind in
                  ("sent", "received", "started", "succeeded", "failed", "rejected", "revoked", "retried"))  # fmt: skip
WORKERS = frozenset(("worker-online", "worker-heartbeat", "worker-offline"))


class KnownEvents(EventsState):  # type: ignore[misc]  # Flower publishes no types
    """The workers' events that Flower keeps. All its pages, and its API, show them."""

    def event(self, event: Any) -> None:
        known = plain(event)
        if known is not None:
            super().event(known)


def event_fault(event: Any) -> str | None:
    """Why Celery could not take the event in; None for one that it can, of whatever kind."""
    if not isinstance(event, dict) or not is_word(event.get("type")):
        return "it is no event"
    if not is_count(event.get("clock", 0)):
        return "its clock is no count"
    times = (event.get("timestamp", 0), event.get("utcoffset", 0))
    return None if all(map(_is_number, times)) else "its time is no number"


def plain(event: Any) -> dict[str, Any] | None:
    """The event's known fields, each a text or a number; None if it is no event of Celery.

    Celery would set every field as an attribute, and Flower's pages escape texts only.
    """
    if not isinstance(event, dict) or not is_word(event.get("hostname")) or not is_word(event.get("type")):
        return None
    kind = event["type"]
    fields = _OF_TASKS if kind in TASKS else _OF_WORKERS if kind in WORKERS else None
    if fields is None or not _is_timestamp(event.get("timestamp")):
        return None
    if kind in TASKS and not is_word(event.get("uuid")):
        return None
    converted = {name: convert(event[name]) for name, convert in fields.items() if name in event}
    return {name: value for name, value in converted.items() if value is not None} | {"type": kind}


def shown(value: object) -> str | float | None:
    """A value that is safe on a page: what is neither text nor number becomes text, which pages escape."""
    if value is None or isinstance(value, bool) or _is_number(value):
        return value  # type: ignore[return-value]  # it is one of these
    return _text(value)


def _text(value: object) -> str | None:
    return None if value is None else redact(str(value)[:_LONGEST_TEXT]).encode("utf-8", "replace").decode()


_LONGEST_TEXT = 64 * 1024


def _number(value: object) -> Any:
    return value if _is_number(value) else None


def _timestamp(value: object) -> Any:
    return value if _is_timestamp(value) else None


def _loads(value: object) -> list[Any] | None:
    """The three load averages; None if they are not numbers."""
    return value[:3] if isinstance(value, list) and all(map(_is_number, value)) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63  # NaN is not


def _is_timestamp(value: object) -> bool:
    return _is_number(value) and 0 <= value < LATEST  # type: ignore[operator]  # it is a number


_Fields = dict[str, Callable[[object], Any]]
_OF_ALL: _Fields = {
    "hostname": _text, "utcoffset": _number, "pid": _number, "clock": _number, "timestamp": _timestamp,
    "local_received": _timestamp,
}  # fmt: skip
_OF_WORKERS: _Fields = _OF_ALL | {
    "freq": _number, "active": _number, "processed": _number, "loadavg": _loads, "sw_ident": _text, "sw_ver": _text,
    "sw_sys": _text,
}  # fmt: skip
_OF_TASKS: _Fields = _OF_ALL | {
    "uuid": _text, "name": _text, "args": _text, "kwargs": _text, "root_id": _text, "parent_id": _text,
    "retries": _number, "eta": _text, "expires": _text, "queue": _text, "exchange": _text, "routing_key": _text,
    "result": _text, "runtime": _number, "exception": _text, "traceback": _text, "terminated": shown,
    "signum": shown, "expired": shown, "requeue": shown,
}  # fmt: skip
