"""Parsing the names that people type."""

from scorebeat.core.errors import UsageError


def version_of(text: str) -> tuple[str, int]:
    """Name and number of a version such as `iris/4`. Raises UsageError."""
    name, slash, number = text.rpartition("/")
    if not slash or not number.isascii() or not number.isdecimal() or len(number) > 9:
        raise UsageError(f"{text!r} is not a version of a model; expected one such as iris/4")
    return name, int(number)
