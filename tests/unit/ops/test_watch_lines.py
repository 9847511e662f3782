"""The lines of `watch` have the numbers of the run's page, as a bar on a terminal and as plain lines elsewhere."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from rich.console import Console

from scorebeat.core.forecasts.forecast import Forecast
from scorebeat.core.states import RunState
from scorebeat.db.reports.status import RunLine
from scorebeat.ops.cli import progress
from scorebeat.ops.cli.progress import Now

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RUN = RunLine(
    id=7, job="iris", model="iris", model_version=3, state=RunState.RUNNING, rows_planned=2000, rows_scored=500,
    rows_failed=3, batches=4, batches_open=3, batches_dead=0, created_at=AT - timedelta(minutes=1), created_by="ann",
    due_at=None, deadline_at=AT + timedelta(minutes=20), planned_at=None, finished_at=None, reason=None, queue="cpu",
)  # fmt: skip


def ends_in(left: timedelta | None) -> Forecast:
    return Forecast(likely=AT + left) if left is not None else Forecast()


FAST = Now(1234.4, ends_in(timedelta(seconds=75)), AT)


def lines_of(*seen: tuple[RunLine, Now | None]) -> list[str]:
    lines: list[str] = []
    shown = progress.Lines(lines.append)
    for line, now in seen:
        shown.show(line, now)
    return lines


def test_a_line_shows_rows_failures_speed_time_left_and_deadline() -> None:
    assert lines_of((RUN, FAST)) == [
        "run 7 iris running: 500 of 2,000 rows, 3 failed, 1,234 rows/s, 75 s left, due in 20 min 0 s"
    ]


@pytest.mark.parametrize(
    ("left", "deadline", "words"),
    [
        (timedelta(minutes=30), timedelta(minutes=20), "30 min 0 s left, due in 20 min 0 s, will be late"),
        (timedelta(seconds=75), -timedelta(minutes=3), "75 s left, late by 3 min 0 s"),
        (timedelta(seconds=75), None, "1,234 rows/s, 75 s left"),
        (None, timedelta(minutes=20), "due in 20 min 0 s"),
    ],
)
def test_lateness_is_forecast_before_it_comes(left: timedelta | None, deadline: timedelta | None, words: str) -> None:
    line = replace(RUN, deadline_at=AT + deadline if deadline is not None else None)

    assert lines_of((line, Now(1234.4 if left else 0.0, ends_in(left), AT)))[0].endswith(words)


def test_the_cause_for_which_an_open_run_waits_is_reported_at_once() -> None:
    waits = replace(RUN, reason="waits for a lock on orders, which process 7 of ann holds in a transaction of 3 s")

    lines = lines_of((RUN, FAST), (waits, FAST))

    assert len(lines) == 2
    assert lines[1].endswith(", waits for a lock on orders, which process 7 of ann holds in a transaction of 3 s")


def test_a_run_that_makes_no_progress_and_becomes_late_is_reported_once() -> None:
    still, later = Now(0.0, Forecast(), AT), Now(0.0, Forecast(), AT + timedelta(minutes=21))

    lines = lines_of((RUN, still), (RUN, still), (RUN, later), (RUN, later))

    assert [line.rpartition(", ")[2] for line in lines] == ["due in 20 min 0 s", "late by 60 s"]


def test_a_run_of_which_no_end_is_forecast_shows_why() -> None:
    unknown = Now(0.0, Forecast(unknown="it waits"), AT)

    assert lines_of((RUN, unknown)) == [
        "run 7 iris running: 500 of 2,000 rows, 3 failed, no end is forecast: it waits, due in 20 min 0 s"
    ]


def test_the_end_of_a_run_has_no_speed_and_no_deadline() -> None:
    over = replace(RUN, state=RunState.PARTIAL, finished_at=AT, rows_scored=1997)

    assert lines_of((over, FAST)) == ["run 7 iris partial: 1,997 of 2,000 rows, 3 failed"]


def test_a_terminal_gets_the_same_numbers_beside_the_bar() -> None:
    out = StringIO()
    with progress.Bars(Console(file=out, force_terminal=True, width=140)) as bars:
        bars.show(RUN, FAST)

    assert "503/2000" in out.getvalue()
    assert "3 failed, 1,234 rows/s, 75 s left, due in 20 min 0 s" in out.getvalue()
