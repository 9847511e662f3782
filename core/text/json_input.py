"""JSON that people and programs send: an object with a key twice is refused, as one of the values would be lost."""

import json
from collections.abc import Callable
from typing import Any


class RepeatedKey(ValueError):
    """A key stands twice in one object; the message begins with its path, such as `rows.1.age`."""


class _Repeating(dict[str, Any]):
    """An object that was written with `key` twice."""

    key: str


def read_json(text: str | bytes, parse_constant: Callable[[str], Any] | None = None) -> Any:
    """As `json.loads`. Raises RepeatedKey, and ValueError for what is no JSON or is nested too deeply."""
    repeating = False

    def make(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeating
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        repeating, found = True, _Repeating(found)
        names = [name for name, _ in pairs]
        found.key = next(name for at, name in enumerate(names) if name in names[:at])
        return found

    try:
        read = json.loads(text, object_pairs_hook=make, parse_constant=parse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if repeating:
        raise RepeatedKey(f"{_path(read)}: the key stands twice in one object")
    return read


def _path(read: Any) -> str:
    """Where the first of the outermost keys that repeat stands."""
    left: list[tuple[tuple[str, ...], Any]] = [((), read)]
    while left:
        path, value = left.pop()
        if isinstance(value, _Repeating):
            return ".".join((*path, value.key))
        parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        left += reversed([((*path, str(name)), part) for name, part in parts if isinstance(part, dict | list)])
    raise AssertionError("what repeats inside an object that was lost is in one that repeats")
