"""What a peer's program is to score, and when it begins: all start-up comes before its clock."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

READY = "ready"
DONE = "done"


@dataclass(frozen=True)
class Task:
    """Rows of a table with the key `id`, which are scored into a table that has the same key."""

    url: str
    """Of the database, as libpq and psycopg2 read it."""
    jdbc_url: str
    user: str
    password: str
    jdbc_jar: str
    """The file of the JDBC driver."""
    broker_url: str
    source: str
    trial: str
    """A table like `source` with few rows, to start with."""
    target: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    """The columns of the target after `id`: the label, then a probability for each class."""
    model: str
    """A file written by joblib."""
    is_text: bool
    cores: int
    batch_rows: int
    """Rows that a program takes at once if its documentation names no number."""

    @property
    def columns(self) -> str:
        """Those that are read, as SQL lists them."""
        return ", ".join(("id", *self.inputs))

    @property
    def sqlalchemy_url(self) -> str:
        return self.url.replace("postgresql://", "postgresql+psycopg2://", 1)


Score = Callable[[str], None]
"""Scores all rows of a table and returns when they are committed."""


def serve(started: Callable[[Task], AbstractContextManager[Score]], packages: Sequence[str]) -> None:
    """Read a task from standard input, start, score a few rows, and then one table for each line that comes in.

    Whatever the program's libraries print goes to standard error.
    """
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    task = read_task(sys.stdin.readline())
    with started(task) as score:
        score(task.trial)
        print(READY, json.dumps({name: version(name) for name in packages}), file=replies)
        for table in _lines():
            score(table)
            print(DONE, file=replies)


def read_task(line: str) -> Task:
    """From JSON."""
    read: dict[str, Any] = json.loads(line)
    return Task(**read | {name: tuple(value) for name, value in read.items() if isinstance(value, list)})


def _lines() -> Iterator[str]:
    for line in sys.stdin:
        yield line.strip()
