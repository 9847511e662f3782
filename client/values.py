"""Python values as the ledger takes them: texts that PostgreSQL reads."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from numbers import Integral
from typing import Any
from uuid import UUID

from scorebeat.core.errors import UsageError
from scorebeat.db.connect.sql import Key


def key_of(key: Any, position: int) -> Key:
    """A key as texts. Raises UsageError, which names its position."""
    parts = list(key) if isinstance(key, Sequence) and not isinstance(key, str | bytes) else [key]
    return tuple(_text(part, f"keys.{position}") for part in parts)


def parameters_of(parameters: Mapping[str, Any] | None) -> dict[str, str]:
    """Parameters of a query as texts, as a person types them. Raises UsageError."""
    return {name: _text(value, f"parameters.{name}", floats=True) for name, value in (parameters or {}).items()}


def _text(value: Any, where: str, *, floats: bool = False) -> str:
    if hasattr(value, "item") and not isinstance(value, type):  # a scalar of NumPy
        value = value.item()
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case bytes():
            return f"\\x{value.hex()}"
        case Integral() | UUID() | Decimal():
            return str(value)
        case datetime() | date():
            return value.isoformat()
        case float() if floats:
            return repr(value)
    raise UsageError(
        f"{where} is {str(value)[:60]!r}, a {type(value).__name__}; expected a text, a whole number, a truth value, a "
        "UUID, a Decimal, bytes, a date or a time"
    )
