"""Waiting for runs: a progress bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from core.states import RunState
from db import status
from db.status import RunLine
from ops.cli.show import cell, duration
from producer.context import Producer

LOOK_EVERY = 0.3
LINE_EVERY = 2.0
"""Seconds between two plain lines about a run that only counts on."""


class Display(Protocol):
    """Shows runs as they are now."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def show(self, line: RunLine) -> None: ...


class Bars:
    """A bar a run."""

    def __init__(self, console: Console | None = None) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console)
        self._tasks: dict[int, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, line: RunLine) -> None:
        if line.id not in self._tasks:
            self._tasks[line.id] = self._progress.add_task("", total=None)
        done = line.rows_scored + line.rows_failed
        total = line.rows_planned if line.rows_planned or line.is_final else None
        self._progress.update(self._tasks[line.id], description=_title(line), completed=done, total=total)


class Lines:
    """A line when a run's state changes, and every few seconds while its count does."""

    def __init__(self, echo: Callable[[str], None] = click.echo) -> None:
        self._echo = echo
        self._said: dict[int, tuple[RunState, int]] = {}
        self._said_at: dict[int, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, line: RunLine) -> None:
        now, state = time.monotonic(), (line.state, line.rows_scored + line.rows_failed)
        before = self._said.get(line.id)
        soon = now - self._said_at.get(line.id, 0.0) < LINE_EVERY
        if state == before or (before is not None and before[0] == line.state and soon):
            return
        self._said[line.id], self._said_at[line.id] = state, now
        self._echo(f"{_title(line)}: {line.rows_scored:,} of {line.rows_planned:,} rows")


def display() -> Display:
    return Bars() if sys.stdout.isatty() else Lines()


def follow(p: Producer, run_id: int) -> RunLine:
    """Show the run until it is final; answers it as it ended. Raises UnknownName."""
    with display() as shown:
        while True:
            with p.engine.connect() as connection:
                line = status.get(connection, run_id)
            shown.show(line)
            if line.is_final:
                return line
            time.sleep(LOOK_EVERY)


def summary(line: RunLine) -> str:
    """How a final run ended, in a sentence or two."""
    model = f"{line.model}/{line.model_version}"
    if line.state is RunState.SUCCEEDED and not line.batches:
        return f"run {line.id}: nothing is pending; every row of job {line.job} was handled by model {model} before"
    took = f" in {duration(line.seconds or 0)}"
    rate = f", {line.speed:,.0f} rows/s" if line.speed else ""
    failed = f", {line.rows_failed:,} quarantined" if line.rows_failed else ""
    reason = f": {cell(line.reason)}" if line.reason else ""
    return f"run {line.id} {line.state}{reason}\n{line.rows_scored:,} rows scored{failed}{took}{rate}, model {model}"


def exit_code(line: RunLine) -> int:
    """0 for a run that succeeded, 1 for any other end."""
    return 0 if line.state is RunState.SUCCEEDED else 1


def _title(line: RunLine) -> str:
    return f"run {line.id} {line.job} {line.state}"
