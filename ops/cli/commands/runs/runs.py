"""`runs`, `show`, `failures`: list runs, and show what failed."""

from typing import Any

import click

from scorebeat.core.forecasts.forecast import Forecast
from scorebeat.core.table_names import snapshot_table
from scorebeat.core.text.durations import in_two_units
from scorebeat.db.closing import old_snapshots
from scorebeat.db.ledger import followed_runs, jobs, watermarks
from scorebeat.db.ledger import runs as run_rows
from scorebeat.db.reports import drift, status
from scorebeat.db.reports.forecasts import forecasts
from scorebeat.db.reports.forecasts.forecasts import forecast_fields
from scorebeat.db.reports.status import RunLine
from scorebeat.ops.cli import output
from scorebeat.ops.cli.commands.reports import cost
from scorebeat.ops.cli.context import database
from scorebeat.ops.cli.options import Whole
from scorebeat.producer.context import Producer
from scorebeat.producer.control.notices import unserved
from scorebeat.producer.costs import cost_report

RUN_COLUMNS = ("id", "job", "model", "model_version", "state", "rows_planned", "rows_scored", "rows_failed",
               "created_at", "finished_at", "expected_end", "reason")  # fmt: skip
FAILURE_COLUMNS = ("kind", "run", "count", "rows", "example", "error")


@click.command()
@click.option("--job", help="Runs of this job only, also of one that left jobs.toml.")
@click.option("--limit", type=Whole(min=1), default=20, show_default=True, help="The newest so many.")
@click.option("--all", "with_idle", is_flag=True, help="Also the ticks that found nothing to score and were not late.")
@output.as_json
def runs(job: str | None, limit: int, with_idle: bool, as_json: bool) -> None:
    """List runs, the newest first; without the ticks that found nothing to score.

    \b
    Example:
        scorebeat runs --job iris --limit 5
    """
    with database() as producer, producer.engine.connect() as connection:
        if job is not None:
            jobs.require_known(connection, job)
        lines = status.newest(connection, limit, job, with_idle=with_idle)
        found = forecasts.of_runs(connection, lines)
        warnings = unserved.of_runs(connection, lines)
    if as_json:
        output.print_json([_run(line) | forecast_fields(found[line.id]) for line in lines])
    else:
        output.table(
            [_run(line) | {"expected_end": _between(found[line.id])} for line in lines],
            RUN_COLUMNS,
            "there are no runs yet; `scorebeat enqueue JOB` makes one",
        )
    for line in warnings:
        output.note(line)


@click.command()
@click.argument("run", type=int)
@click.option("--batch", type=int, help="This batch of the run, with its first and last keys.")
@click.option("--keys", "keys_only", is_flag=True, help="With --batch: its keys and nothing else, as CSV.")
@output.as_json
def show(run: int, batch: int | None, keys_only: bool, as_json: bool) -> None:
    """Show a RUN and its batches, or one batch and the rows that it stands for.

    The keys of a batch can be given back to `enqueue --keys`.

    \b
    Example:
        scorebeat show 3
        scorebeat show 3 --batch 17 --keys
    """
    if keys_only and batch is None:
        raise click.UsageError("--keys goes with --batch")
    with database() as producer:
        if batch is None:
            _show_run(producer, run, as_json=as_json)
        else:
            from scorebeat.ops.cli.commands.runs.show_batch import show_batch  # noqa: PLC0415 -- what reads keys loads Arrow

            show_batch(producer, run, batch, keys_only=keys_only, as_json=as_json)


@click.command()
@click.argument("run", type=int, required=False)
@output.as_json
def failures(run: int | None, as_json: bool) -> None:
    """Show dead batches, quarantined rows and runs that failed as a whole, of one RUN or of all, by their error.

    \b
    Example:
        scorebeat failures 3
    """
    with database() as producer, producer.engine.connect() as connection:
        if run is not None:
            status.get(connection, run)
        found = status.failures(connection, run)
    if as_json:
        output.print_json([{**row, "rows": int(row["rows"])} for row in found])
        return
    output.table(
        [{**row, "rows": int(row["rows"])} for row in found],
        FAILURE_COLUMNS,
        "no run failed, no batch is dead and no row is in quarantine",
    )
    if any(row["rows"] for row in found):
        output.note("`scorebeat requeue RUN` puts all of it back, `--error TEXT` what has TEXT in its error")


def _run(line: RunLine) -> dict[str, Any]:
    """A run in JSON; the names are a promise to programs."""
    values = {name: getattr(line, name) for name in RUN_COLUMNS if name != "expected_end"}
    more = ("due_at", "deadline_at", "planned_at", "created_by", "batches", "batches_open", "batches_dead", "queue")
    return values | {name: getattr(line, name) for name in more}


def _between(found: Forecast) -> str | None:
    """`2026-11-22 02:10:00 (02:08:12 to 02:13:40)`; None without a forecast."""
    if found.likely is None or found.earliest is None or found.latest is None:
        return None
    return (
        f"{output.cell(found.likely)} ({found.earliest.astimezone():%H:%M:%S} to {found.latest.astimezone():%H:%M:%S})"
    )


def _show_run(producer: Producer, run: int, *, as_json: bool) -> None:
    with producer.engine.connect() as connection:
        line = status.get(connection, run)
        removed = followed_runs.removed(connection, run)
        spent = cost_report.of_run(connection, run)
        size = old_snapshots.size_of(connection, run)
        found = watermarks.compared(connection, run)
        if as_json:
            compared = {"compared_since": found and found.since, "rows_missed": found and found.missed}
            more = {"batches": status.batches(connection, run), "snapshot_bytes": size, "rows_removed": removed}
            more |= cost.run_json(spent) | forecast_fields(forecasts.of_runs(connection, [line])[run])
            output.print_json(_run(line) | compared | more)
            return
        drifted = drift.in_words(drift.of_run(connection, run)) if line.is_final else None
        states = status.batch_states(connection, run)
        last = status.last_error(connection, run)
        warnings = unserved.of_runs(connection, [line])
        details: dict[str, str] = {}
        stored_rows = run_rows.get(connection, run).snapshot_rows
        if stored_rows is not None:
            kept = "dropped, because no batch needs it" if size is None else f"{size / 2**20:,.1f} MiB"
            details["snapshot"] = f"{stored_rows:,} rows in {snapshot_table(run)}, {kept}"
        if found is not None:
            missed = f", of which {found.missed:,} had been missed" if found.missed else ""
            details["compared"] = ("every key" if found.since is None else f"rows since {found.since}") + missed
        if not line.is_final:
            forecast = forecasts.of_runs(connection, [line])[run]
            details["expected_end"] = _between(forecast) or f"not forecast: {forecast.unknown}"
    if removed is not None:
        details["rows_removed"] = f"{removed:,}"
    if spent.device_seconds:
        details |= cost.of_run(spent)
    took = None if line.seconds is None else in_two_units(line.seconds)
    output.fields(_run(line) | {"took": took} | details | {"drift": drifted})
    click.echo()
    columns = ("state", "batches", "rows_planned", "rows_scored", "rows_failed", "attempts", "fetch_seconds",
               "predict_seconds", "commit_seconds")  # fmt: skip
    counts = [{**row, **{name: int(row[name]) for name in columns[2:5]}} for row in states]
    output.table(counts, columns, "no batches: nothing was pending" if line.is_final else "no batches yet")
    if last is not None:
        again = f"{last['batches']} batch{'es' * (last['batches'] != 1)}, to be tried again"
        click.echo(f"\nfailed before: {again}; the last error, of batch {last['id']}, attempt {last['attempt']}:")
        click.echo(f"  {output.cell(last['error'])}")
    for warning in warnings:
        output.note(warning)
