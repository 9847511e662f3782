"""One job in one view, for its page and for a file: is it right, its runs, drift, quality and cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from scorebeat.core.jobs.drift_limits import DriftLimits
from scorebeat.core.jobs.job import Job
from scorebeat.db.connect import database_clock
from scorebeat.db.ledger import jobs
from scorebeat.db.ledger.evidence import profiles
from scorebeat.db.ledger.evidence import quality as readings
from scorebeat.db.ledger.evidence.profiles import RunDrift
from scorebeat.db.ledger.evidence.quality import JobQuality
from scorebeat.db.ledger.jobs import JobRow
from scorebeat.db.reports import status
from scorebeat.db.reports.forecasts import mornings
from scorebeat.db.reports.forecasts.mornings import Morning
from scorebeat.db.reports.pages import job_history
from scorebeat.db.reports.pages.job_history import RunOutputs
from scorebeat.monitor.charts import costs, drift, quality, runs
from scorebeat.monitor.charts.chart import Chart
from scorebeat.monitor.charts.drift import HeatMap
from scorebeat.producer.costs import cost_report
from scorebeat.producer.costs.cost_report import JobMonth

WEEKS = 20
"""Of the calendar."""
RUNS = 60
"""Bars of a chart of runs."""
COMPARED = 20
"""Columns of the heat map, and bars of the shares of labels."""
OUTPUTS = 6
"""Outputs that are drawn over runs: those with few values first."""
DISTRIBUTIONS = 6
"""Drifted measures of the newest run whose distributions are drawn."""
MONTHS = 12

Measure = tuple[int, str, str]
"""A run, `input` or `output`, and the name of a measure."""


@dataclass(frozen=True)
class JobReport:
    job: Job
    row: JobRow | None
    """None for a job that left its jobs file."""
    morning: Morning | None
    """None as `row`."""
    now: datetime
    calendar: Chart
    durations: Chart
    speeds: Chart
    outputs: tuple[Chart, ...]
    compared: tuple[RunDrift, ...]
    heat_map: HeatMap
    distributions: tuple[Chart, ...]
    not_drawn: tuple[str, ...]
    """Why chosen measures have no distribution."""
    is_newer_reference: bool
    """The reference of what is drawn was replaced since the run was compared with it."""
    quality: JobQuality
    metrics: tuple[Chart, ...]
    calibrations: tuple[Chart, ...]
    costs: Chart
    months: tuple[JobMonth, ...]


def job_report(connection: Connection, name: str, chosen: Measure | None = None) -> JobReport:
    """The job, with the distribution of the chosen measure, else of those that drifted in the newest compared run.

    Raises UnknownName.
    """
    job = jobs.get_any(connection, name)
    now = database_clock.now(connection)
    seen = next((one for one in mornings.listing(connection) if one.line.name == name), None)
    newest = status.newest(connection, RUNS, name, with_idle=False)[::-1]
    days = job_history.days(connection, name, job.timezone, WEEKS)
    outputs = job_history.outputs_of_runs(connection, name, COMPARED)
    compared = profiles.newest_compared(connection, name, COMPARED)
    measures = [chosen] if chosen is not None else _of_interest(compared)
    found = job_history.histograms(connection, name, measures[0][0], [one[1:] for one in measures]) if measures else []
    drawn = [(one, drift.distribution(one, f"distribution-{number}")) for number, one in enumerate(found)]
    read = readings.of_job(connection, name)
    months = cost_report.report(connection, name).months[:MONTHS]
    missed = {one[1:] for one in measures} - {(one.finding.side, one.finding.name) for one in found}
    return JobReport(
        job=job,
        row=jobs.get(connection, name) if seen is not None else None,
        morning=seen,
        now=now,
        calendar=runs.calendar(days, now.astimezone(ZoneInfo(job.timezone)).date(), WEEKS, job.timezone),
        durations=runs.durations(newest),
        speeds=runs.speeds(newest),
        outputs=tuple(_outputs(outputs)),
        compared=tuple(compared),
        heat_map=drift.heat_map(compared, job.drift or DriftLimits()),
        distributions=tuple(chart for _, chart in drawn if chart is not None),
        not_drawn=tuple(
            [f"{one.finding.name} of run {one.run} has no values to draw" for one, chart in drawn if chart is None]
            + [f"run {measures[0][0]} was not compared by an {side} {measure}" for side, measure in sorted(missed)]
        ),
        is_newer_reference=any(one.is_newer_reference for one in found),
        quality=read,
        metrics=tuple(quality.metrics(read.weeks)),
        calibrations=tuple(quality.calibrations(read.weeks)),
        costs=costs.by_month(months),
        months=months,
    )


def _of_interest(compared: Sequence[RunDrift]) -> list[Measure]:
    """What drifted in the newest run; else the measure that is farthest from its reference."""
    if not compared or not compared[-1].findings:
        return []
    newest = compared[-1]
    chosen = newest.drifted[:DISTRIBUTIONS] or [max(newest.findings or (), key=lambda one: one.psi or 0.0)]
    return [(newest.run, one.side, one.name) for one in chosen]


def _outputs(found: Sequence[RunOutputs]) -> list[Chart]:
    """A chart for each output of the newest run, those with few values first."""
    if not found:
        return []
    newest = found[-1]
    charts = [drift.labels(found, name, f"labels-{number}") for number, name in enumerate(newest.labels)]
    charts += [drift.quantiles(found, name, f"quantiles-{number}") for number, name in enumerate(newest.quantiles)]
    return charts[:OUTPUTS]
