"""The rules of names: of PostgreSQL's identifiers, and of models and their versions as people type them."""

import re
from contextlib import suppress

from scorebeat.core.errors import UsageError

LONGEST_IDENTIFIER = 63
"""Bytes of a PostgreSQL identifier; it truncates longer ones silently."""
MODEL_NAME = re.compile(r"[a-z][a-z0-9_]*")
LONGEST_MODEL_NAME = 40
MODEL_NAME_RULE = f"a lower-case letter, then letters, digits and underscores, at most {LONGEST_MODEL_NAME} characters"
VERSION_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


def parse_model(text: str) -> tuple[str, int | None]:
    """Name and version of `iris/4`; of `iris` the version is None. Raises UsageError."""
    name, slash, number = text.partition("/")
    if not name or (slash and not VERSION_NUMBER.fullmatch(number)):
        raise UsageError(f"{text!r} is neither a model nor a version of one; expected one such as iris or iris/4")
    return name, int(number) if slash else None


def version_of(text: str) -> tuple[str, int]:
    """Name and number of a version such as `iris/4`. Raises UsageError."""
    with suppress(UsageError):
        name, number = parse_model(text)
        if number is not None:
            return name, number
    raise UsageError(f"{text!r} is not a version of a model; expected one such as iris/4")
