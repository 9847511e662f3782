"""Checks of a message before anything of it is used: anybody who reaches the broker may write one."""

import base64
import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from celery.app.task import Context
from kombu.message import Message

from scorebeat.core.jobs.job import JOB_NAME, LONGEST_JOB_NAME
from scorebeat.core.queues import CANARY, CONTROL, FOLLOW, KEYS, NOTIFY, PLAN, QUALITY, SCORE, TICK

LONGEST = 64 * 1024
"""Bytes of a message; ours have about 1,500."""
LONGEST_WORD = 255
LARGEST_ID = 2**63 - 1

_OURS = frozenset(
    ("lang", "task", "id", "root_id", "parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result", "expires")
)
"""Headers that we send and a worker may use."""
_LEFT_OUT = frozenset(("timelimit", "kwargs", "args"))
"""Celery obeys these too. We remove them: beat sends its own host's limits along; arguments are in the body."""
_OBEYED = frozenset(vars(Context)) - _OURS - _LEFT_OUT
"""Further headers that Celery obeys: another name, a later time, tasks to send afterwards, a method of its own."""
_FOLLOW = frozenset(("callbacks", "errbacks", "chain", "chord"))
"""Keys that a body's third part may have; in our messages they are empty."""
_WORDS = ("root_id", "parent_id", "origin", "lang")
_REPEATED = ("argsrepr", "kwargsrepr")
LONGEST_REPEATED = 1024 + 3
"""Characters; Celery cuts what is longer."""
_TIMESTAMP = re.compile(r"2[01]\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)?")
_MOST_DIGITS = 40
_NO_JSON = "it is not JSON of plain texts and numbers"
_SHOWN = 60
"""Characters of a stranger's text that are logged."""


def envelope_fault(raw: bytes | str, longest: int = LONGEST) -> str | None:
    """Why the broker's bytes are no message that kombu may open; None if they are one.

    kombu would unpack a compressed message, however large it gets, and raise an error that ends the worker for text
    that is no JSON or lacks a part.
    """
    if len(raw) > longest:
        return f"it has {len(raw):,} bytes; ours have at most {longest:,}"
    try:
        message = plain_json(raw)
    except (ValueError, RecursionError):
        return _NO_JSON
    return _message_fault(message)


def kept_fault(raw: bytes | str) -> str | None:
    """Why what the broker keeps as unacknowledged is no message with its exchange and key; None if it is."""
    try:
        kept = plain_json(raw)
    except (ValueError, RecursionError):
        return _NO_JSON
    is_list = isinstance(kept, list) and list(map(type, kept)) == [dict, str, str]
    if not is_list or not all(map(_is_short, kept[1:])):
        return "it is no message with its exchange and key"
    return _message_fault(kept[0])


def opened(raw: bytes | str) -> tuple[dict[str, Any], Any]:
    """Headers and body of bytes that have no fault."""
    parsed = plain_json(raw)
    return parsed["headers"], plain_json(base64.b64decode(parsed["body"]))


def plain_json(raw: bytes | str) -> Any:
    """The parsed JSON. Raises ValueError for what Celery could not write again: half a surrogate pair, a number of
    4,300 digits, NaN, infinity, an object that stands for another type."""
    text = raw.decode() if isinstance(raw, bytes) else raw  # json would guess another encoding, which kombu does not
    parsed = json.loads(text, object_hook=_plain, parse_int=_int, parse_float=_float, parse_constant=_float)
    json.dumps(parsed, ensure_ascii=False).encode()
    return parsed


def task_fault(message: Message, tasks: Collection[str]) -> str | None:
    """Why the message is no call of one of `tasks` as we send it; None if it is one.

    Celery would obey headers that send further tasks, lift the time limits or hold the message in memory for
    years.
    """
    headers: Mapping[str, Any] = message.headers
    name = headers.get("task")
    if not isinstance(name, str) or name not in tasks or name.startswith("celery."):
        return f"it names no task of ours: {_shown(name)}"
    return _header_fault(headers) or _call_fault(name, message.payload)


def keep_ours(message: Message) -> None:
    """Keep only headers that we know: Celery turns every header, of any name, into an attribute of the task."""
    message.headers = {name: value for name, value in message.headers.items() if name in _OURS}


def _message_fault(parsed: Any) -> str | None:
    if not isinstance(parsed, dict):
        return "it is not an object"
    return _parts_fault(parsed) or _body_fault(parsed)


def _parts_fault(parsed: Mapping[str, Any]) -> str | None:
    headers, properties = parsed.get("headers"), parsed.get("properties")
    if not isinstance(headers, dict) or not isinstance(properties, dict):
        return "its headers or properties are missing"
    if headers.get("compression"):
        return "it is compressed"
    if not is_word(properties.get("delivery_tag")):
        return "it has no delivery tag"
    delivery = properties.get("delivery_info")
    if not isinstance(delivery, dict) or not all(_is_short(delivery.get(name)) for name in ("exchange", "routing_key")):
        return "it has no exchange and routing key"
    if not all(_is_short(properties.get(name) or "") for name in ("reply_to", "correlation_id")):
        return "its reply would go nowhere"
    return None if isinstance(properties.get("priority") or 0, int) else "its priority is no number"


def _body_fault(parsed: Mapping[str, Any]) -> str | None:
    content = (parsed.get("content-type"), parsed.get("content-encoding"))
    if content != ("application/json", "utf-8"):
        return f"its content is {_shown(content[0])}, {_shown(content[1])}; expected application/json, utf-8"
    if parsed["properties"].get("body_encoding") != "base64":
        return "its body is not in base64"
    try:
        plain_json(base64.b64decode(parsed.get("body", ""), validate=True).decode())
    except (ValueError, TypeError, RecursionError):
        return "its body is not JSON, of plain texts and numbers, in base64"
    return None


def _header_fault(headers: Mapping[str, Any]) -> str | None:
    used = sorted(name for name in _OBEYED if headers.get(name))
    if used:
        return f"it has the header {used[0]}, which we never send"
    if not is_word(headers.get("id")):
        return "it has no id"
    long = [name for name in _WORDS if headers.get(name) is not None and not is_word(headers[name])]
    long += [name for name in _REPEATED if not _is_short(headers.get(name, ""), LONGEST_REPEATED)]
    if long:
        return f"its header {long[0]} is no short text"
    if headers.get("ignore_result") not in (None, True, False):
        return "its header ignore_result is no yes or no"
    if not isinstance(headers.get("timelimit") or [], list):
        return "its header timelimit is no pair"
    return None if _is_timestamp(headers.get("expires")) else "its header expires is no timestamp"


def _call_fault(name: str, body: Any) -> str | None:
    if not isinstance(body, list) or list(map(type, body)) != [list, dict, dict]:
        return "its body is not arguments, named arguments and what follows"
    args, named, embedded = body
    if any(embedded.values()) or not embedded.keys() <= _FOLLOW:
        return "it names tasks to be sent after it, or more"
    expected = _ARGUMENTS.get(name)
    if expected is not None and (named or not expected(args)):
        return f"{name} takes other arguments"
    return None


def _plain(parsed: dict[str, Any]) -> dict[str, Any]:
    """Refuse an object of which kombu would make another type."""
    if "__type__" in parsed:
        raise ValueError("an object that stands for another type")
    return parsed


def _is_id(args: Sequence[Any]) -> bool:
    return len(args) == 1 and type(args[0]) is int and 0 < args[0] <= LARGEST_ID


def _is_job(args: Sequence[Any]) -> bool:
    is_text = len(args) == 1 and isinstance(args[0], str)
    return is_text and len(args[0]) <= LONGEST_JOB_NAME and JOB_NAME.fullmatch(args[0]) is not None


def _is_nothing(args: Sequence[Any]) -> bool:
    return not args


_ARGUMENTS: Mapping[str, Callable[[Sequence[Any]], bool]] = {
    SCORE: _is_id,
    CANARY: _is_id,
    PLAN: _is_id,
    TICK: _is_job,
    CONTROL: _is_nothing,
    NOTIFY: _is_nothing,
    FOLLOW: _is_nothing,
    KEYS: _is_nothing,
    QUALITY: _is_nothing,
}


def is_word(value: object) -> bool:
    """A short text on one line, which can be written."""
    return _is_short(value) and value != ""


def is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= LARGEST_ID


def _is_short(value: object, longest: int = LONGEST_WORD) -> bool:
    return isinstance(value, str) and len(value) <= longest and value.isprintable()


def _is_timestamp(value: object) -> bool:
    if value is None:
        return True
    try:
        return isinstance(value, str) and bool(_TIMESTAMP.fullmatch(value) and datetime.fromisoformat(value))
    except ValueError:
        return False


def _int(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError("a number of too many digits")
    return int(digits)


def _float(written: str) -> float:
    number = float(written)
    if not math.isfinite(number):
        raise ValueError("no number")
    return number


def _shown(value: object) -> str:
    return repr(value if isinstance(value, str | int | None) else type(value).__name__)[:_SHOWN]
