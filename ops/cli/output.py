"""What commands print: tables for people, JSON for programs, lines for logs."""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import date, datetime, timedelta
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scorebeat.core.text.directions import visible
from scorebeat.core.text.durations import in_two_units

WIDE = 10_000
"""Width in characters without a terminal: a pipe gets each row on one line."""
NAMES = frozenset({"id", "run", "number", "model_version", "attempt"})
"""Columns whose numbers are names, and have no thousands separator."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


class _Console(Console):
    """Leaves a broken pipe to `ops.cli.app`."""

    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704 -- called by rich from its handler


def console() -> Console:
    """Standard output; values are never read as markup."""
    width = None if sys.stdout.isatty() else WIDE
    return _Console(markup=False, highlight=False, emoji=False, width=width, soft_wrap=False)


def table(rows: Sequence[Mapping[str, Any]], columns: Iterable[str], empty: str) -> None:
    """Print the columns of the rows; a column without values is left out. Without rows print `empty`."""
    if not rows:
        click.echo(empty)
        return
    filled = [name for name in columns if any(row.get(name) is not None for row in rows)]
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in filled:
        is_number = all(isinstance(row.get(name), int | float | None) for row in rows)
        drawn.add_column(name.replace("_", " "), justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(_cell(name, row.get(name))) for name in filled))
    console().print(drawn)


def fields(values: Mapping[str, Any]) -> None:
    """Print names and values below each other; what is None is left out."""
    width = max(map(len, values), default=0)
    for name, value in values.items():
        if value is not None:
            click.echo(f"{name.replace('_', ' '):<{width}}  {_cell(name, value)}")


def cell(value: object) -> str:
    """A value on one line, for people; characters that move or turn what a terminal shows never reach it."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, timedelta):
        return in_two_units(value.total_seconds())
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return visible(_CONTROL.sub(" ", str(value)))


def _cell(name: str, value: object) -> str:
    return str(value) if name in NAMES and value is not None else cell(value)


def print_json(value: object) -> None:
    """Print JSON: times as ISO 8601 with their zone, durations in seconds."""
    click.echo(json.dumps(value, default=_json, indent=2, ensure_ascii=False))


def explained(rows_from: str, cost: str, advice: Sequence[str]) -> None:
    """How a run finds its rows, what that costs, and what would help."""
    click.echo(f"how rows are found: {rows_from}")
    click.echo(f"that takes: {cost}")
    click.echo(f"to add: {'; '.join(advice) or 'nothing'}")


def note(message: str) -> None:
    """Print a note to standard error, so that a program that reads our output is not disturbed."""
    click.echo(f"note: {cell(message)}", err=True)


def _json(value: object) -> object:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
