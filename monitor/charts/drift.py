"""Charts of the inputs and predictions of runs: outputs over runs, drift by measure, and two distributions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scorebeat.core.jobs.drift_limits import DriftLimits
from scorebeat.db.ledger.evidence.profiles import RunDrift
from scorebeat.db.reports.pages.job_history import MeasureHistogram, RunOutputs
from scorebeat.drift.finding import Finding
from scorebeat.monitor import formatting
from scorebeat.monitor.charts.chart import COLOURS, Bar, Chart, Mark, Row, Series, bars, colours, lines

MEASURES = 40
"""Rows of the heat map: those that drifted first."""


def labels(runs: Sequence[RunOutputs], output: str, name: str) -> Chart:
    """The share of each value of an output, a bar for each run."""
    there = [run for run in runs if output in run.labels]
    values = sorted({value for run in there for value in run.labels[output]})
    kinds = colours(values)
    found = [
        Bar(
            f"run {run.run}: {_shares(run.labels[output])}",
            tuple((kinds[value], run.labels[output].get(value, 0.0)) for value in values),
        )
        for run in there
    ]
    marks, _, _ = bars(found)
    return Chart(
        name,
        f"Shares of the values of {output}",
        f"the last {formatting.plural(len(there), 'run')} with predictions; in the newest "
        f"{_shares(there[-1].labels[output])}",
        ("Run", "Version", "Rows of the sample", *map(_named, values)),
        tuple(
            Row(
                (
                    f"run {run.run}",
                    str(run.version),
                    formatting.count(run.rows),
                    *(formatting.percent(run.labels[output].get(value, 0.0)) for value in values),
                ),
                run.run,
            )
            for run in reversed(there)
        ),
        marks=marks,
        highest="100 %",
        ends=(f"run {there[0].run}", f"run {there[-1].run}"),
        legend=tuple((kinds[value], _named(value)) for value in values[:COLOURS]),
    )


def _shares(found: Mapping[str, float]) -> str:
    return ", ".join(f"{_named(label)} {formatting.percent(share)}" for label, share in found.items())


def _named(label: str) -> str:
    return label or "the empty text"


def quantiles(runs: Sequence[RunOutputs], output: str, name: str) -> Chart:
    """Median and the tenth and ninetieth percentile of an output, run after run."""
    there = [run for run in runs if output in run.quantiles]
    values = [run.quantiles[output] for run in there]
    low, high = min(min(one) for one in values), max(max(one) for one in values)
    series = [
        Series(part, kind, tuple(one[at] for one in values))
        for at, (part, kind) in enumerate((("10 %", "faint"), ("median", "active"), ("90 %", "faint")))
    ]
    dots, strokes = lines(series, [f"run {run.run}" for run in there], low, high)
    return Chart(
        name,
        f"{output} over runs",
        f"the last {formatting.plural(len(there), 'run')} with predictions; in the newest the median is "
        f"{formatting.number(values[-1][1])}, and 8 of 10 rows have {formatting.number(values[-1][0])} to "
        f"{formatting.number(values[-1][2])}",
        ("Run", "Version", "Rows of the sample", "10 %", "Median", "90 %"),
        tuple(
            Row(
                (f"run {run.run}", str(run.version), formatting.count(run.rows), *map(formatting.number, one)),
                run.run,
            )
            for run, one in reversed(list(zip(there, values, strict=True)))
        ),
        strokes=strokes,
        dots=dots,
        highest=f"{formatting.number(high)}; the lower edge is {formatting.number(low)}",
        ends=(f"run {there[0].run}", f"run {there[-1].run}"),
        legend=(("active", "median"), ("faint", "8 of 10 rows are between")),
    )


@dataclass(frozen=True)
class Cell:
    """One measure in one run."""

    run: int
    level: str
    """`near`, `close` (half of the limit of the PSI), `far` (the limit, and it may be chance), `drift`, or `none`."""
    text: str
    title: str


@dataclass(frozen=True)
class Line:
    side: str
    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class HeatMap:
    runs: tuple[int, ...]
    lines: tuple[Line, ...]
    left_out: int
    """Measures beyond `MEASURES`, all of them without drift unless `MEASURES` have drifted."""


def heat_map(found: Sequence[RunDrift], limits: DriftLimits) -> HeatMap:
    """A line for each measure, a column for each run; those that drifted in most runs come first."""
    by_run = [{(one.side, one.name): one for one in run.findings or ()} for run in found]
    both = list(zip(found, by_run, strict=True))
    measures = list(dict.fromkeys(measure for run in reversed(by_run) for measure in run))
    drifted = {measure: sum(bool(run[measure].reasons) for run in by_run if measure in run) for measure in measures}
    measures.sort(key=lambda measure: -drifted[measure])  # stable: else the order of the newest run
    return HeatMap(
        tuple(run.run for run in found),
        tuple(
            Line(
                *measure,
                tuple(_cell(run.run, its.get(measure), limits) for run, its in both),
            )
            for measure in measures[:MEASURES]
        ),
        max(0, len(measures) - MEASURES),
    )


def _cell(run: int, finding: Finding | None, limits: DriftLimits) -> Cell:
    if finding is None:
        return Cell(run, "none", formatting.NOTHING, f"run {run}: not compared")
    text = formatting.NOTHING if finding.psi is None else f"{finding.psi:.2f}"
    if finding.reasons:
        return Cell(run, "drift", text, f"run {run}: {'; '.join(finding.reasons)}")
    share = 0.0 if finding.psi is None else finding.psi / limits.psi
    level = "far" if share >= 1 else "close" if share >= 0.5 else "near"
    return Cell(run, level, text, f"run {run}: near the reference")


def distribution(found: MeasureHistogram, name: str) -> Chart | None:
    """Both distributions of a measure, two bars for each bin; None if they cannot be drawn."""
    if found.histogram is None:
        return None
    bins = found.histogram.bins
    highest = max(max(one.before, one.now) for one in bins) or 1.0
    step = 100.0 / len(bins)
    marks = []
    for at, one in enumerate(bins):
        title = f"{one.name}: reference {formatting.percent(one.before)}, run {formatting.percent(one.now)}"
        for part, (kind, share) in enumerate((("before", one.before), ("active", one.now))):
            height = 100.0 * share / highest
            marks.append(Mark((at + 0.1 + 0.4 * part) * step, 100.0 - height, 0.4 * step, height, kind, title))
    most = max(bins, key=lambda one: abs(one.now - one.before))
    return Chart(
        name,
        f"{found.finding.name} ({found.finding.side}) of run {found.run}",
        f"{found.histogram.measures} in {formatting.plural(len(bins), 'bin')}; the greatest difference: {most.name} is "
        f"{formatting.percent(most.now)} of the run, {formatting.percent(most.before)} of the reference",
        (found.histogram.measures, "Reference", f"Run {found.run}"),
        tuple(Row((one.name, formatting.percent(one.before), formatting.percent(one.now))) for one in bins),
        marks=tuple(marks),
        highest=formatting.percent(highest),
        ends=(bins[0].name, bins[-1].name),
        legend=(("before", f"reference: {found.reference}"), ("active", f"run {found.run}")),
    )
