"""Charts of what really happened: metrics over weeks by model version, and calibration."""

from collections.abc import Sequence

from scorebeat.db.ledger.evidence.quality import QualityWeek
from scorebeat.monitor import formatting
from scorebeat.monitor.charts.chart import Chart, Row, Series, Stroke, colours, lines

METRICS = {
    "accuracy": "Accuracy",
    "roc_auc": "Area under the ROC curve",
    "log_loss": "Log loss (lower is better)",
    "rmse": "Root mean squared error (lower is better)",
    "mae": "Mean absolute error (lower is better)",
}
"""What is drawn, if a week has it, and its name."""
SHARES = ("accuracy", "roc_auc")
"""Metrics whose best value is 1, which is the upper edge."""
LATEST = 2
"""Versions whose calibration is drawn: the newest."""


def metrics(weeks: Sequence[QualityWeek]) -> list[Chart]:
    """A chart for each metric, a line for each version; `weeks` has the newest first."""
    mondays = sorted({week.week for week in weeks})
    versions = sorted({(week.model, week.version) for week in weeks})
    kinds = colours(f"{model}/{version}" for model, version in versions)
    charts = []
    for metric, title in METRICS.items():
        found = {
            (week.model, week.version, week.week): week.metrics[metric]
            for week in weeks
            if week.metrics.get(metric) is not None
        }
        if not found:
            continue
        series = [
            Series(f"{m}/{v}", kinds[f"{m}/{v}"], tuple(found.get((m, v, on)) for on in mondays)) for m, v in versions
        ]
        high = 1.0 if metric in SHARES else max(found.values())
        # a line, unlike a bar, may begin above 0: small changes are what people look for
        low = max(0.0, min(found.values()) - 0.2 * (high - min(found.values())))
        dots, strokes = lines(series, [f"week of {on}" for on in mondays], low, high)
        newest = next(week for week in weeks if week.metrics.get(metric) is not None)
        charts.append(
            Chart(
                f"quality-{metric}",
                title,
                f"{formatting.plural(len(mondays), 'week')}; the newest of {newest.model}/{newest.version}, of "
                f"{newest.week}: {formatting.number(newest.metrics[metric])}",
                ("Week of", "Version", title, "Rows"),
                tuple(
                    Row(
                        (
                            str(week.week),
                            f"{week.model}/{week.version}",
                            formatting.number(week.metrics[metric]),
                            formatting.count(week.metrics["compared"]),
                        )
                    )
                    for week in weeks
                    if week.metrics.get(metric) is not None
                ),
                strokes=strokes,
                dots=dots,
                highest=f"{formatting.number(high)}; the lower edge is {formatting.number(low)}",
                ends=(f"week of {mondays[0]}", f"week of {mondays[-1]}"),
                legend=tuple((kinds[one.name], one.name) for one in series),
            )
        )
    return charts


def calibrations(weeks: Sequence[QualityWeek]) -> list[Chart]:
    """Of the newest versions, in their newest weeks: how often it happened against how probable it was."""
    newest: dict[tuple[str, int], QualityWeek] = {}
    for week in weeks:
        if week.metrics.get("calibration"):
            newest.setdefault((week.model, week.version), week)
    return [_calibration(week, number) for number, week in enumerate(list(newest.values())[:LATEST])]


def _calibration(week: QualityWeek, number: int) -> Chart:
    found = week.metrics["calibration"]
    bins = [each for each in found["bins"] if each["rows"]]
    names = [f"{each['above']:.1f} to {each['above'] + 0.1:.1f}" for each in found["bins"]]
    dots, strokes = lines(
        [Series("happened", "active", tuple(each["happened"] for each in found["bins"]))], names, 0.0, 1.0
    )
    worst = max(bins, key=lambda each: abs(each["happened"] - each["predicted"]))
    return Chart(
        f"calibration-{number}",
        f"Calibration of {week.model}/{week.version}, week of {week.week}",
        f"of {found['of']}: farthest apart where {formatting.percent(worst['predicted'])} was predicted and "
        f"{formatting.percent(worst['happened'])} happened",
        ("Probability", "Rows", "Predicted", "Happened"),
        tuple(
            Row(
                (
                    f"{each['above']:.1f} to {each['above'] + 0.1:.1f}",
                    formatting.count(each["rows"]),
                    formatting.percent(each["predicted"]),
                    formatting.percent(each["happened"]),
                )
            )
            for each in bins
        ),
        strokes=(Stroke(0, 100, 100, 0, "limit"), *strokes),
        dots=dots,
        highest="it happened in 100 %",
        ends=("probability 0", "1"),
        legend=(("active", f"how often {found['of']} happened"), ("limit", "as predicted")),
    )
