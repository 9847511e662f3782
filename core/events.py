"""Events: what happened, as a name and fields, and how they are written to the log."""

import json
import logging
import math
import re
import sys
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, TextIO

from scorebeat.core.event_levels import level_of
from scorebeat.core.text.directions import visible
from scorebeat.core.urls import redact

LOGGER = "scorebeat"
TALKATIVE = ("httpx", "httpcore", "h11", "h2", "hpack", "urllib3", "requests", "aiohttp", "botocore", "boto3",
             "aiobotocore", "s3fs", "s3transfer", "fsspec", "gcsfs", "google", "adlfs", "azure", "msal", "asyncio",
             "tornado.access", "websockets")  # fmt: skip
"""Libraries that write URLs and headers of requests to the log: the token of a webhook is a part of its URL, and so is
the signature of a stored file. Only their warnings and errors are written."""
_SHORT_LEVELS = {"WARNING": "WARN", "CRITICAL": "FATAL"}
_OWN_KEYS = frozenset({"time", "level", "event", "logger", "message", "exception"})
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_BARE = re.compile(r"[^\s\"'=\\]+")


def emit(event: str, /, level: int | None = None, *, exc: BaseException | None = None, **fields: object) -> None:
    """Report that `event` (`noun.verb`) happened; `exc` is logged with its traceback.

    By default the level is that of `core.event_levels`.
    Passwords in URLs are hidden, in fields and in the traceback too.
    """
    extra = {"scorebeat_event": event, "scorebeat_fields": fields}
    level = level_of(event, fields) if level is None else level
    logging.getLogger(LOGGER).log(level, event, exc_info=exc, extra=extra, stacklevel=2)


def configure_logging(
    log_format: Literal["text", "json"], level: int = logging.INFO, stream: TextIO | None = None
) -> None:
    """Write every logger's records of `level` and above to `stream` (stderr), and nowhere else.

    May be called again: the last call holds. Celery's and kombu's loggers are written in the same form.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(TextFormatter() if log_format == "text" else JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


class _Redacting(logging.Formatter):
    """Hides passwords in whatever is formatted; logging itself reports a record that cannot be formatted."""

    def exception(self, record: logging.LogRecord) -> str:
        """The traceback; empty without one."""
        if record.exc_info and record.exc_info[0] is not None:
            return redact(self.formatException(record.exc_info))
        return redact(record.exc_text or "")


class TextFormatter(_Redacting):
    """For people: `12:31:04 INFO  batch.committed run=3 batch=17`; tracebacks on the lines after it."""

    def format(self, record: logging.LogRecord) -> str:
        level = _SHORT_LEVELS.get(record.levelname, record.levelname)
        event, fields = _event(record)
        if event:
            message = " ".join([event, *(f"{key}={_text(value)}" for key, value in fields.items())])
        else:
            message = _escaped(f"{record.name} {redact(record.getMessage())}").replace("\n", "\n    ")
        line = f"{self.formatTime(record, '%H:%M:%S')} {level:<5} {message}"
        exception = self.exception(record)
        return f"{line}\n{_escaped(exception)}" if exception else line


class JsonFormatter(_Redacting):
    """For machines: one JSON object a line, with time (UTC), level, event and the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
        }
        event, fields = _event(record)
        if event:
            entry["event"] = event
            entry |= {f"field_{key}" if key in _OWN_KEYS else key: value for key, value in fields.items()}
        else:
            entry |= {"event": "log", "logger": record.name, "message": record.getMessage()}
        exception = self.exception(record)
        if exception:
            entry["exception"] = exception
        return json.dumps(_plain(entry), ensure_ascii=False, allow_nan=False)


def _event(record: logging.LogRecord) -> tuple[str, Mapping[str, object]]:
    """Name and fields; an empty name for a record that is no event of ours."""
    return getattr(record, "scorebeat_event", ""), getattr(record, "scorebeat_fields", {})


def _text(value: object) -> str:
    """A value on one line; quoted where a bare one could be misread."""
    plain = _plain(value)
    if isinstance(plain, str) and _BARE.fullmatch(plain) and plain.isprintable():
        return plain
    return _escaped(json.dumps(plain, ensure_ascii=False))


def _plain(value: object) -> Any:
    """`value` in JSON's types, its texts without passwords."""
    match value:
        case Mapping():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(inner) for inner in value]
        case _:
            return _plain_scalar(value)


def _plain_scalar(value: object) -> Any:
    match value:
        case None | bool() | int():
            return value
        case float():
            return round(value, 6) if math.isfinite(value) else str(value)
        case timedelta():
            return round(value.total_seconds(), 6)
        case date():
            return value.isoformat()
        case _:
            return redact(str(value))


def _escaped(text: str) -> str:
    """No character that moves a terminal's cursor, colours it or turns its direction."""
    return visible(_CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", text))
