"""Remote commands that a worker takes over the broker: those that Flower's pages and buttons need, and no other."""

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

from celery.worker.control import Panel

from scorebeat.broker.guard.envelope import is_count, is_word
from scorebeat.core.identifiers import LONGEST_IDENTIFIER
from scorebeat.core.jobs.job import BROKERS_OWN, QUEUE_NAME

MAILBOX = "celery.pidbox"
"""The end of the name of the broker's channel for commands."""
REPLIES = f".reply.{MAILBOX}"
"""The end of the name of a queue for their replies."""
SIGNALS = frozenset(("TERM", "KILL", "QUIT", "INT", "USR1"))
MOST_IDS = 1000
MOST_PROCESSES = 4 * (os.cpu_count() or 1)
"""Processes of one worker at most, however often a command asks for more."""

Check = Callable[[Any], bool]


def narrow() -> None:
    """Remove every remote command of Celery that is not in `KEPT`, and bound the pool. May be called again."""
    for name in set(Panel.data) - KEPT:
        del Panel.data[name]
        Panel.meta.pop(name, None)
    untaken = {"error": "Scorebeat's workers do not take this command"}
    Panel.data.update(dict.fromkeys(_NOT_TAKEN, lambda _state, **_arguments: untaken))
    for name, fault in _BOUNDED.items():
        if Panel.data[name].__module__ != __name__:
            Panel.data[name] = _bounded(Panel.data[name], fault)


def command_fault(headers: Mapping[str, Any], body: Any) -> str | None:
    """Why a broadcast is no command that we keep, as Celery sends it; None if it is one.

    Celery would call any command with any arguments: an invalid queue ends the worker.
    """
    if not isinstance(body, dict) or not body.keys() <= _PARTS:
        return "its body is no command"
    name, arguments = body.get("method"), body.get("arguments") or {}
    if not isinstance(name, str) or name not in KEPT:
        return f"it names no command that is kept: {name!r:.60}" if is_word(name) else "it names no command"
    if name in _ARGUMENTS:
        known, needed = _ARGUMENTS[name], _NEEDED.get(name, set())
        if not isinstance(arguments, dict) or not needed <= arguments.keys() <= known.keys():
            return f"{name} takes other arguments"
        wrong = [argument for argument, value in arguments.items() if not known[argument](value)]
        if wrong:
            return f"{name} takes another {wrong[0]}"
    return _clock_fault(headers) or _addresses_fault(body)


def reply_fault(headers: Mapping[str, Any], body: Any) -> str | None:
    """Why this is not a worker's reply to a command; None if it is.

    Celery would return a reply without a ticket to any caller.
    """
    if not isinstance(body, dict) or not is_word(headers.get("ticket")):
        return "it is no worker's reply"
    return _clock_fault(headers)


def _clock_fault(headers: Mapping[str, Any]) -> str | None:
    end = headers.get("expires") or 0
    is_numbers = is_count(headers.get("clock") or 0) and isinstance(end, int | float) and math.isfinite(end)
    return None if is_numbers else "its clock or its end is no number"


def _addresses_fault(body: Mapping[str, Any]) -> str | None:
    if body.get("pattern") is not None or body.get("matcher") is not None:
        return "it is addressed by a pattern, which we never send"
    to, reply_to = body.get("destination"), body.get("reply_to")
    if to is not None and not (isinstance(to, list) and all(map(is_word, to))):
        return "it is addressed to no list of workers"
    if reply_to is not None and not (
        isinstance(reply_to, dict) and reply_to.keys() == _REPLY_TO and all(map(is_word, reply_to.values()))
    ):
        return "its reply would go nowhere"
    return None if body.get("ticket") is None or is_word(body["ticket"]) else "its ticket is no word"


def _bounded(command: Callable[..., Any], fault: Callable[..., str | None]) -> Callable[..., Any]:
    """The command; instead of a traceback in the log, a fault becomes its reply, which Flower shows."""

    def bounded(state: Any, **arguments: Any) -> Any:
        reason = fault(state, **arguments)
        try:
            return {"error": reason} if reason else command(state, **arguments)
        except (ValueError, NotImplementedError) as error:
            return {"error": str(error)}

    return bounded


def _growing_fault(state: Any, n: int = 1) -> str | None:
    is_few = state.consumer.pool.num_processes + n <= MOST_PROCESSES
    return None if is_few else f"a worker here has at most {MOST_PROCESSES} processes"


def _shrinking_fault(state: Any, n: int = 1) -> str | None:
    return None if state.consumer.pool.num_processes > n else "a worker keeps at least one process"


def _scaling_fault(state: Any, max: int = MOST_PROCESSES, min: int = 1) -> str | None:  # noqa: A002 -- the command's names
    if state.consumer.controller.autoscaler is None:
        return "this worker was started without --autoscale"
    return None if min <= max else "min is above max"


_BOUNDED: Mapping[str, Callable[..., str | None]] = {
    "pool_grow": _growing_fault,
    "pool_shrink": _shrinking_fault,
    "autoscale": _scaling_fault,
}


def _is_queue(value: object) -> bool:
    is_name = isinstance(value, str) and len(value) <= LONGEST_IDENTIFIER and QUEUE_NAME.fullmatch(value) is not None
    return is_name and value not in BROKERS_OWN


def _is_flag(value: object) -> bool:
    return value is None or (isinstance(value, bool | int) and value in (0, 1))  # Flower sends 1 and 0


def _is_size(value: object) -> bool:
    return type(value) is int and 1 <= value <= MOST_PROCESSES


def _is_ids(value: object) -> bool:
    return is_word(value) or (isinstance(value, list) and len(value) <= MOST_IDS and all(map(is_word, value)))


def _is_signal(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.removeprefix("SIG") in SIGNALS)


_PARTS = frozenset(("method", "arguments", "destination", "pattern", "matcher", "ticket", "reply_to"))
_REPLY_TO = {"exchange", "routing_key"}
_TAKES_NOTHING = ("active_queues", "clock", "disable_events", "enable_events", "heartbeat", "ping", "report",
                  "reserved", "revoked", "scheduled", "shutdown", "stats")  # fmt: skip
_ARGUMENTS: Mapping[str, Mapping[str, Check]] = {name: {} for name in _TAKES_NOTHING} | {
    "active": {"safe": _is_flag},
    "add_consumer": {"queue": _is_queue, "exchange": lambda name: name is None, "routing_key": lambda key: key is None,
                     "exchange_type": lambda kind: kind in (None, "direct")},
    "autoscale": {"max": _is_size, "min": _is_size},
    "cancel_consumer": {"queue": _is_queue},
    "conf": {"with_defaults": _is_flag},
    "pool_grow": {"n": _is_size},
    "pool_shrink": {"n": _is_size},
    "query_task": {"ids": _is_ids},
    "registered": {"taskinfoitems": lambda items: not items, "builtins": _is_flag},
    "revoke": {"task_id": _is_ids, "terminate": _is_flag, "signal": _is_signal},
    "terminate": {"task_id": _is_ids, "signal": _is_signal},
}  # fmt: skip
"""The arguments of each command. Flower's buttons send those of the pool and of queues; batches that they take from a
worker come back through the ledger."""
_NOT_TAKEN = frozenset(("rate_limit", "time_limit", "pool_restart"))
"""Refused with a reply, which Flower shows, because it has buttons for them."""
KEPT = _NOT_TAKEN | frozenset(_ARGUMENTS)
"""The other commands lift time limits, stop tasks by rate limits, import modules or write files."""
_NEEDED = {
    "add_consumer": {"queue"}, "cancel_consumer": {"queue"}, "query_task": {"ids"},
    "revoke": {"task_id"}, "terminate": {"task_id", "signal"},
}  # fmt: skip
