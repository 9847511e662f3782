"""`quality`: how well predictions fit what really happened, by model version and week."""

from dataclasses import asdict
from typing import Any

import click

from scorebeat.db.ledger import jobs
from scorebeat.db.ledger.evidence import quality as readings
from scorebeat.db.ledger.evidence.quality import QualityWeek
from scorebeat.ops.cli import output
from scorebeat.ops.cli.context import database

METRICS = ("accuracy", "roc_auc", "log_loss", "rmse", "mae", "r2")
COLUMNS = ("week", "model", "rows", "compared", "truth_known", *METRICS, "scored_after", "null_labels", "left_out")
BINS = ("model", "of", "probability", "rows", "predicted", "happened")


@click.command()
@click.argument("job")
@click.option("--now", is_flag=True, help="Read the truth now, in this process, and compute the newest weeks anew.")
@click.option("--calibration", is_flag=True, help="Also the calibration of each version in its newest week.")
@output.as_json
def quality(job: str, now: bool, calibration: bool, as_json: bool) -> None:
    """Show how well the predictions of JOB fit what really happened: the newest week first, versions side by side.

    The job's `truth` in jobs.toml is the query of what happened.

    \b
    Example:
        scorebeat quality churn --now
    """
    # what computes loads Arrow
    from scorebeat.producer.requests import measure_quality  # noqa: PLC0415

    with database() as producer:
        if now:
            found = measure_quality.measure(producer, job)
        else:
            with producer.engine.connect() as connection:
                found = readings.of_job(connection, job)
                if not found.weeks:
                    measure_quality.require_truth(jobs.get_any(connection, job))
    if as_json:
        output.print_json(asdict(found))
    else:
        output.table(
            [_row(week) for week in found.weeks],
            COLUMNS,
            f"no week is computed yet; `scorebeat quality {found.job} --now` reads the truth at once",
        )
        for week in found.weeks:
            for note in week.metrics.get("notes", ()):
                output.note(f"{week.week} {week.model}/{week.version}: {note}")
        if calibration:
            newest = {(week.model, week.version): week for week in reversed(found.weeks)}
            click.echo()
            output.table([row for week in newest.values() for row in _bins(week)], BINS, "no version has probabilities")
    if found.failure is not None:
        output.note(f"the last reading failed: {found.failure}")


def _row(week: QualityWeek) -> dict[str, Any]:
    figures = {name: week.metrics.get(name) for name in METRICS}
    return {
        "week": str(week.week),
        "model": f"{week.model}/{week.version}",
        "rows": week.rows,
        "compared": week.metrics["compared"],
        "truth_known": f"{week.with_truth / week.predictions:.0%}" if week.predictions else None,
        **{name: None if figure is None else f"{figure:.4g}" for name, figure in figures.items()},
        **{name: getattr(week, name) or None for name in ("scored_after", "null_labels")},
        "left_out": week.metrics["left_out"] or None,
    }


def _bins(week: QualityWeek) -> list[dict[str, Any]]:
    found = week.metrics.get("calibration") or {"of": "", "bins": []}
    return [
        {
            "model": f"{week.model}/{week.version}",
            "of": found["of"],
            "probability": f"{each['above']:.1f} to {each['above'] + 0.1:.1f}",
            "rows": each["rows"],
            **{name: None if each[name] is None else f"{each[name]:.3f}" for name in ("predicted", "happened")},
        }
        for each in found["bins"]
    ]
