"""Charts: where each mark is, and that the table beside has the same figures."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from scorebeat.core.jobs.drift_limits import DriftLimits
from scorebeat.core.states import RunState
from scorebeat.db.ledger.evidence.profiles import RunDrift
from scorebeat.db.ledger.evidence.quality import QualityWeek
from scorebeat.db.reports.pages.job_history import Day, RunOutputs
from scorebeat.db.reports.status import RunLine
from scorebeat.drift.finding import Finding
from scorebeat.monitor.charts import drift, quality, runs
from scorebeat.monitor.charts.chart import Bar, Series, bars, lines

NOON = datetime(2026, 7, 8, 12, tzinfo=UTC)
MONDAY = date(2026, 7, 6)


def run(number: int, state: RunState, seconds: float, deadline: float | None = None, rows: int = 100) -> RunLine:
    after = None if deadline is None else NOON + timedelta(seconds=deadline)
    return RunLine(
        number, "job", "model", 1, state, rows, rows, 0, 1, 0, 0, NOON, "beat", None, after, NOON,
        NOON + timedelta(seconds=seconds), None, "cpu",
    )  # fmt: skip


def test_bars_fill_the_height_up_to_the_highest_bar_or_limit() -> None:
    marks, strokes, highest = bars([Bar("one", (("a", 1), ("b", 3))), Bar("two", (("a", 2),), limit=8)])

    assert highest == 8
    assert [(mark.y, mark.height) for mark in marks] == [(87.5, 12.5), (50.0, 37.5), (75.0, 25.0)]
    assert [(round(mark.x), round(mark.width)) for mark in marks] == [(5, 40), (5, 40), (55, 40)]
    assert [(stroke.x1, stroke.x2, stroke.y1) for stroke in strokes] == [(50, 100, 0)]


def test_bars_of_nothing_and_of_zeros_have_no_height() -> None:
    assert bars([]) == ((), (), 1.0)
    assert bars([Bar("idle", (("a", 0.0),))])[0][0].height == 0


def test_a_line_goes_over_the_positions_that_have_no_value() -> None:
    dots, strokes = lines([Series("m", "k", (1.0, None, 3.0))], ("x", "y", "z"), 1, 3)

    assert [(round(dot.x), dot.y) for dot in dots] == [(17, 100), (83, 0)]
    assert len(strokes) == 1


def test_a_line_of_the_greatest_numbers_is_within_the_drawing() -> None:
    dots, _ = lines([Series("m", "k", (-1.7e308, 0.0, 1.7e308))], ("x", "y", "z"), -1.7e308, 1.7e308)

    assert [dot.y for dot in dots] == [100, 50, 0]


def test_a_day_has_the_place_of_its_week_and_the_colour_of_its_worst_run() -> None:
    found = [
        Day(MONDAY, ((RunState.FAILED, 1), (RunState.SUCCEEDED, 3)), 4),
        Day(MONDAY + timedelta(days=2), ((RunState.SUCCEEDED, 1),), 5),
    ]
    chart = runs.calendar(found, MONDAY + timedelta(days=2), 2, "UTC")

    assert len(chart.marks) == 10  # a whole week, and three days
    monday, wednesday = chart.marks[7], chart.marks[9]
    assert (monday.kind, monday.title) == ("failed", "2026-07-06: 1 failed, 3 succeeded")
    assert (monday.x > 50, monday.y < 100 / 7, wednesday.y > 200 / 7) == (True, True, True)
    assert chart.marks[0].kind == "none"
    assert [row.cells for row in chart.rows] == [
        ("2026-07-08", "1 succeeded", "run 5"),
        ("2026-07-06", "1 failed, 3 succeeded", "run 4"),
    ]


def test_runs_that_were_due_before_the_calendar_are_not_counted_in_it() -> None:
    found = [Day(MONDAY + timedelta(weeks=-n), ((RunState.SUCCEEDED, 1),), 9 - n) for n in (50, 2, 1)]
    chart = runs.calendar(found, MONDAY, 2, "UTC")

    assert chart.summary == "the last 2 weeks: 1 day with runs, 1 succeeded"
    assert [row.cells[0] for row in chart.rows] == [str(MONDAY + timedelta(weeks=-1))]


def test_late_runs_are_named_and_the_deadline_is_a_line() -> None:
    found = [run(1, RunState.SUCCEEDED, 60, 120), run(2, RunState.FAILED, 240, 120), run(3, RunState.PARTIAL, 30)]
    chart = runs.durations(found)

    assert "the last 3 runs, 1 of them late; the longest 4 min 0 s" in chart.summary
    assert [(mark.kind, mark.height) for mark in chart.marks] == [("succeeded", 25), ("failed", 100), ("partial", 12.5)]
    assert [stroke.y1 for stroke in chart.strokes] == [50, 50]
    assert chart.rows[1].cells[2:5] == ("failed, late", "4 min 0 s", "2 min 0 s")
    assert chart.rows[1].run == 2
    assert ("limit", "deadline") in chart.legend


def test_a_chart_of_no_runs_has_no_rows() -> None:
    assert runs.durations([]).rows == runs.speeds([]).rows == runs.calendar([], MONDAY, 3, "UTC").rows == ()


def test_shares_of_labels_are_stacked_in_one_order_whatever_a_run_predicts() -> None:
    found = [
        RunOutputs(1, 1, 10, {"label": {"yes": 0.75, "no": 0.25}}, {}),
        RunOutputs(2, 1, 10, {"label": {"no": 1.0}}, {}),
    ]
    chart = drift.labels(found, "label", "labels-0")

    assert [(mark.kind, mark.height) for mark in chart.marks] == [
        ("series-0", 25), ("series-1", 75), ("series-0", 100), ("series-1", 0),
    ]  # fmt: skip
    assert chart.head[-2:] == ("no", "yes")
    assert [row.cells[-2:] for row in chart.rows] == [("100.0 %", "0.0 %"), ("25.0 %", "75.0 %")]


def finding(name: str, psi: float | None, *reasons: str) -> Finding:
    return Finding("input", name, psi, None, (0, 0), (None, None), (None, None), reasons)


def compared(number: int, *findings: Finding) -> RunDrift:
    return RunDrift(number, 1000, findings, None, NOON, "run 1")


def test_the_measure_that_drifted_most_comes_first_and_each_level_has_its_limit() -> None:
    found = drift.heat_map(
        [
            compared(2, finding("calm", 0.01), finding("wild", 0.5, "PSI 0.50, limit 0.2")),
            compared(3, finding("calm", 0.1), finding("wild", 0.25), finding("new", None)),
        ],
        DriftLimits(),
    )

    assert found.runs == (2, 3)
    assert [(line.name, [cell.level for cell in line.cells]) for line in found.lines] == [
        ("wild", ["drift", "far"]), ("calm", ["near", "close"]), ("new", ["none", "near"]),
    ]  # fmt: skip
    assert found.lines[0].cells[0].title == "run 2: PSI 0.50, limit 0.2"


def test_a_wide_model_has_the_measures_that_drifted_and_the_number_of_the_others() -> None:
    many = [finding(f"x{number}", 0.0) for number in range(drift.MEASURES + 60)]
    found = drift.heat_map([compared(2, *many, finding("last", 9.0, "PSI 9.00, limit 0.2"))], DriftLimits())

    assert (found.lines[0].name, len(found.lines), found.left_out) == ("last", drift.MEASURES, 61)


def week(version: int, weeks_ago: int, **metrics: Any) -> QualityWeek:
    return QualityWeek(
        "m", version, MONDAY - timedelta(weeks=weeks_ago), 9, 0, 0, 9, 9, {"compared": 9, **metrics}, NOON
    )


def test_each_metric_has_a_line_for_each_version_over_the_same_weeks() -> None:
    weeks = [week(2, 0, accuracy=0.9, roc_auc=None), week(1, 0, accuracy=0.8), week(1, 1, accuracy=0.7)]
    (chart,) = quality.metrics(weeks)

    assert chart.legend == (("series-0", "m/1"), ("series-1", "m/2"))
    assert [(dot.kind, round(dot.x)) for dot in chart.dots] == [("series-0", 25), ("series-0", 75), ("series-1", 75)]
    assert len(chart.strokes) == 1
    assert [row.cells[1:3] for row in chart.rows] == [("m/2", "0.9"), ("m/1", "0.8"), ("m/1", "0.7")]
    assert all(0 <= dot.y <= 100 for dot in chart.dots)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_metric_that_never_changes_is_drawn(value: float) -> None:
    (chart,) = quality.metrics([week(1, 0, accuracy=value), week(1, 1, accuracy=value)])

    assert len(chart.dots) == 2


def test_calibration_is_of_the_newest_week_of_the_newest_two_versions() -> None:
    bins = [{"above": at / 10, "rows": 5 * (at == 6), "predicted": 0.65 if at == 6 else None,
             "happened": 0.2 if at == 6 else None} for at in range(10)]  # fmt: skip
    found = {"of": "yes", "bins": bins}
    weeks = [week(3, 0, calibration=found), week(2, 1, calibration=found), week(3, 1, calibration=found),
             week(1, 2, calibration=found)]  # fmt: skip

    charts = quality.calibrations(weeks)

    assert [chart.title for chart in charts] == [
        "Calibration of m/3, week of 2026-07-06", "Calibration of m/2, week of 2026-06-29",
    ]  # fmt: skip
    assert charts[0].rows[0].cells == ("0.6 to 0.7", "5", "65.0 %", "20.0 %")
    assert [(round(dot.x), round(dot.y)) for dot in charts[0].dots] == [(65, 80)]
