"""Keys in a URL or a body: plain text for one column, a JSON list for several."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints

from scorebeat.core.errors import UsageError
from scorebeat.db.connect.sql import Key

LONGEST = 10_000
PlainText = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
"""PostgreSQL's text holds no NUL."""


def whole(value: object) -> object:
    """In JSON, 5.0 is a whole number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Part = Annotated[PlainText | Annotated[int, BeforeValidator(whole)], Field(union_mode="left_to_right")]
AFTER = "The last key of the page before: plain text, or a JSON list of one element a key column."


def parse(text: str) -> Key:
    """Parse a key. A JSON list has one element for each key column; everything else is the text of a single column.

    Raises UsageError for a list that holds anything but texts, numbers and truth values.
    """
    try:
        parsed = json.loads(text, parse_int=str, parse_float=str, parse_constant=str) if text[:1] == "[" else None
    except (ValueError, RecursionError):
        parsed = None
    key = tuple(map(_part, parsed)) if isinstance(parsed, list) else (text,)
    try:
        "".join(key).encode()
    except UnicodeEncodeError:
        raise UsageError("the key holds half of a character, which no text in PostgreSQL does") from None
    if any("\0" in part for part in key):
        raise UsageError("the key holds a NUL character, which no text in PostgreSQL does")
    return key


def of_body(key: Part | Sequence[Part]) -> Key:
    return (str(key),) if isinstance(key, str | int) else tuple(map(str, key))


def _part(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():  # numbers too, as the caller wrote them
            return value
    raise UsageError(f"a key holds {json.dumps(value)[:60]}; expected texts, numbers or truth values in its list")
