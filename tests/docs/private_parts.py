"""docs/reference/private-parts.md as the tests read it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.docs.pages import REPOSITORY

PAGE = REPOSITORY / "docs/reference/private-parts.md"


@dataclass(frozen=True)
class Row:
    """One thing that is relied on."""

    packages: tuple[str, ...]
    """Whose it is, as they are imported."""
    names: tuple[str, ...]
    paths: tuple[str, ...]
    """Files, or folders with a slash at the end."""
    tests: tuple[str, ...]


def _rows() -> Iterator[Row]:
    packages: tuple[str, ...] = ()
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("## "):
            packages = _code(line)
        elif line.startswith("| ") and not line.startswith("| What "):
            what, where, _, test = line.strip("| ").split(" | ")
            yield Row(packages, _code(what), _code(where), _code(test))


def _code(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`([^`]+)`", text))


ROWS = tuple(_rows())
