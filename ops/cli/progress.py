"""Waiting for runs: a progress bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column
from sqlalchemy import Connection

from scorebeat.core.forecasts.forecast import Forecast
from scorebeat.core.states import RunState
from scorebeat.core.text.durations import in_two_units
from scorebeat.db.connect import database_clock
from scorebeat.db.reports import status
from scorebeat.db.reports.forecasts import forecasts
from scorebeat.db.reports.pages import run_pages
from scorebeat.db.reports.status import RunLine
from scorebeat.ops.cli.output import cell
from scorebeat.producer.context import Producer

LOOK_EVERY = 0.3
LINE_EVERY = 2.0
"""Seconds between two plain lines about a run of which only the count changes."""


@dataclass(frozen=True)
class Now:
    """The speed of a run, the forecast of its end, and the time of this look."""

    rows_a_second: float
    forecast: Forecast
    at: datetime
    """By the database's clock."""


def now(connection: Connection, line: RunLine) -> Now:
    forecast = forecasts.of_runs(connection, [line])[line.id]
    return Now(run_pages.pace(connection, line), forecast, database_clock.now(connection))


class Display(Protocol):
    """Shows runs as they are now."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def show(self, line: RunLine, now: Now | None = None) -> None: ...


class Bars:
    """A progress bar for each run."""

    def __init__(self, console: Console | None = None) -> None:
        how = TextColumn("{task.fields[how]}", table_column=Column(no_wrap=True, overflow="ellipsis"))
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), how, TimeElapsedColumn())
        self._progress = Progress(*columns, console=console)
        self._tasks: dict[int, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, line: RunLine, now: Now | None = None) -> None:
        if line.id not in self._tasks:
            self._tasks[line.id] = self._progress.add_task("", total=None, how="")
        done = line.rows_scored + line.rows_failed
        total = line.rows_planned if line.rows_planned or line.is_final else None
        how = ", ".join(_how(line, now))
        self._progress.update(self._tasks[line.id], description=_title(line), completed=done, total=total, how=how)


class Lines:
    """A line when a run's state changes, and one every few seconds while its count changes."""

    def __init__(self, echo: Callable[[str], None] = click.echo) -> None:
        self._echo = echo
        self._shown: dict[int, tuple[RunState, tuple[bool, bool], int]] = {}
        self._shown_at: dict[int, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, line: RunLine, now: Now | None = None) -> None:
        is_late = now is not None and line.deadline_at is not None and not line.is_final and now.at > line.deadline_at
        flags = is_late, line.reason is not None
        shown_at, state = time.monotonic(), (line.state, flags, line.rows_scored + line.rows_failed)
        before = self._shown.get(line.id)
        soon = shown_at - self._shown_at.get(line.id, 0.0) < LINE_EVERY
        if state == before or (before is not None and before[:2] == state[:2] and soon):
            return
        self._shown[line.id], self._shown_at[line.id] = state, shown_at
        self._echo(", ".join([f"{_title(line)}: {line.rows_scored:,} of {line.rows_planned:,} rows", *_how(line, now)]))


def display() -> Display:
    return Bars() if sys.stdout.isatty() else Lines()


def follow(producer: Producer, run_id: int) -> RunLine:
    """Show the run until it is final; returns it as it ended. Raises UnknownName."""
    with display() as shown:
        while True:
            with producer.engine.connect() as connection:
                line = status.get(connection, run_id)
                present = now(connection, line)
            shown.show(line, present)
            if line.is_final:
                return line
            time.sleep(LOOK_EVERY)


def summary(line: RunLine) -> str:
    """How a final run ended, in a sentence or two."""
    model = f"{line.model}/{line.model_version}"
    if line.state is RunState.SUCCEEDED and not line.batches:
        return (
            f"run {line.id}: nothing is pending: job {line.job}'s query gave no row that model {model} has not handled"
        )
    took = f" in {in_two_units(line.seconds or 0)}"
    rate = f", {line.speed:,.0f} rows/s" if line.speed else ""
    failed = f", {line.rows_failed:,} quarantined" if line.rows_failed else ""
    reason = f": {cell(line.reason)}" if line.reason else ""
    return f"run {line.id} {line.state}{reason}\n{line.rows_scored:,} rows scored{failed}{took}{rate}, model {model}"


def exit_code(line: RunLine) -> int:
    """0 for a run that succeeded, 1 for any other end."""
    return 0 if line.state is RunState.SUCCEEDED else 1


def _how(line: RunLine, now: Now | None) -> list[str]:
    """The progress of an open run: failed rows, speed, time left, deadline and what it waits for."""
    parts = [f"{line.rows_failed:,} failed"] if line.rows_failed else []
    if now is None or line.is_final:
        return parts
    if now.rows_a_second:
        parts.append(f"{now.rows_a_second:,.0f} rows/s")
    left = now.forecast.left(now.at)
    if left is not None:
        parts.append(f"{in_two_units(left.total_seconds())} left")
    elif now.forecast.unknown is not None:
        parts.append(f"no end is forecast: {now.forecast.unknown}")
    if line.deadline_at is not None:
        seconds = (line.deadline_at - now.at).total_seconds()
        parts.append(f"late by {in_two_units(-seconds)}" if seconds < 0 else f"due in {in_two_units(seconds)}")
        if seconds >= 0 and now.forecast.passes(line.deadline_at):
            parts.append("will be late")
    if line.reason:
        parts.append(cell(line.reason))
    return parts


def _title(line: RunLine) -> str:
    return f"run {line.id} {line.job} {line.state}"
