"""Charts of a job's runs: a calendar, how long each took, and how fast it was."""

from collections.abc import Sequence
from datetime import date, timedelta

from scorebeat.core.states import RunState
from scorebeat.db.reports.pages.job_history import Day
from scorebeat.db.reports.status import RunLine
from scorebeat.monitor import formatting
from scorebeat.monitor.charts.chart import Bar, Chart, Mark, Row, bars

WORST_FIRST = (
    RunState.FAILED,
    RunState.HELD,
    RunState.PARTIAL,
    RunState.CANCELLED,
    RunState.PLANNING,
    RunState.RUNNING,
    RunState.SUCCEEDED,
)
"""A day has the colour of its worst run."""
WEEKDAYS = 7


def calendar(found: Sequence[Day], today: date, weeks: int, timezone: str) -> Chart:
    """A column a week, a row a weekday, from Monday down."""
    monday = today - timedelta(days=today.weekday(), weeks=weeks - 1)
    width, height = 100.0 / weeks, 100.0 / WEEKDAYS
    found = [day for day in found if day.on >= monday]  # a backfill has runs that were due long before
    by_day = {day.on: day for day in found}
    marks = []
    for at in range((today - monday).days + 1):
        on = monday + timedelta(days=at)
        day = by_day.get(on)
        kind, title = ("none", f"{on}: no run") if day is None else (_worst(day).value, f"{on}: {_states(day)}")
        x, y = at // WEEKDAYS * width, at % WEEKDAYS * height
        marks.append(Mark(x + 0.1 * width, y + 0.1 * height, 0.8 * width, 0.8 * height, kind, title))
    there = [state for state in WORST_FIRST if any(_worst(day) is state for day in found)]
    zone = "" if timezone == "UTC" else f", days in {timezone}"
    return Chart(
        "calendar",
        f"Runs by day{zone}",
        f"the last {weeks} weeks: {formatting.plural(len(found), 'day')} with runs, "
        + (", ".join(f"{sum(_worst(day) is state for day in found)} {state}" for state in there) or "none"),
        ("Day", "Runs", "Newest"),
        tuple(Row((str(day.on), _states(day), f"run {day.newest_run}")) for day in reversed(found)),
        marks=tuple(marks),
        ends=(f"week of {monday}", "this week"),
        legend=(*((state.value, state.value) for state in there), ("none", "no run")),
    )


def _worst(day: Day) -> RunState:
    return min((state for state, _ in day.states), key=WORST_FIRST.index)


def _states(day: Day) -> str:
    return ", ".join(f"{count} {state}" for state, count in day.states)


def durations(runs: Sequence[RunLine]) -> Chart:
    """How long each run that ended took, and until its deadline; the oldest on the left."""
    ended = [run for run in runs if run.seconds is not None]
    found = []
    for run in ended:
        limit = _limit(run)
        until = "" if limit is None else f", deadline after {formatting.duration(limit)}"
        title = f"run {run.id}, {run.state}{', late' * _was_late(run)}: took {formatting.duration(run.seconds)}{until}"
        found.append(Bar(title, ((run.state.value, run.seconds or 0.0),), limit))
    marks, strokes, highest = bars(found)
    return Chart(
        "durations",
        "How long runs took",
        f"the last {formatting.plural(len(ended), 'run')}, {sum(map(_was_late, ended))} of them late; the longest "
        f"{formatting.duration(max((run.seconds or 0.0 for run in ended), default=None))}",
        ("Run", "Began", "State", "Took", "Time until the deadline", "Rows"),
        tuple(
            Row(
                (
                    f"run {run.id}",
                    formatting.timestamp(run.created_at),
                    run.state.value + ", late" * _was_late(run),
                    formatting.duration(run.seconds),
                    formatting.duration(_limit(run)),
                    formatting.count(run.rows_scored),
                ),
                run.id,
            )
            for run in reversed(ended)
        ),
        marks=marks,
        strokes=strokes,
        highest=formatting.duration(highest) if ended else "",
        ends=_ends(ended),
        legend=(
            *((state.value, state.value) for state in WORST_FIRST if any(run.state is state for run in ended)),
            *((("limit", "deadline"),) if strokes else ()),
        ),
    )


def _was_late(run: RunLine) -> bool:
    return run.deadline_at is not None and run.finished_at is not None and run.finished_at > run.deadline_at


def _limit(run: RunLine) -> float | None:
    """Seconds from its request to its deadline; None if there is none, or it had passed by then."""
    left = None if run.deadline_at is None else (run.deadline_at - run.created_at).total_seconds()
    return left if left is not None and left > 0 else None


def speeds(runs: Sequence[RunLine]) -> Chart:
    """Rows a second of each run that scored rows."""
    scored = [run for run in runs if run.speed is not None]
    found = [
        Bar(f"run {run.id}: {formatting.speed(run.speed)} rows/s", (("active", run.speed or 0.0),)) for run in scored
    ]
    marks, _, highest = bars(found)
    return Chart(
        "speeds",
        "Rows/s of runs",
        f"the last {formatting.plural(len(scored), 'run')} that scored rows; the fastest "
        f"{formatting.speed(highest if scored else None)} rows/s",
        ("Run", "Began", "Rows/s", "Rows"),
        tuple(
            Row(
                (
                    f"run {run.id}",
                    formatting.timestamp(run.created_at),
                    formatting.speed(run.speed),
                    formatting.count(run.rows_scored),
                ),
                run.id,
            )
            for run in reversed(scored)
        ),
        marks=marks,
        highest=f"{formatting.speed(highest)} rows/s" if scored else "",
        ends=_ends(scored),
    )


def _ends(runs: Sequence[RunLine]) -> tuple[str, str]:
    return (f"run {runs[0].id}", f"run {runs[-1].id}") if runs else ("", "")
