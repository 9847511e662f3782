"""`runs`, `show`, `failures`: what was done, and what went wrong."""

import csv
import sys
from itertools import islice
from typing import Any

import click
from sqlalchemy import Connection

from scorebeat.core.errors import UnknownName, UsageError
from scorebeat.db import batch_keys, filters, jobs, planning, prediction_sets, set_drops, source, status, versions
from scorebeat.db import runs as run_rows
from scorebeat.db.prediction_sets import PredictionSet
from scorebeat.db.runs import Run
from scorebeat.db.sql import Key
from scorebeat.db.status import RunLine
from scorebeat.ops.cli import show as out
from scorebeat.ops.cli.context import database
from scorebeat.ops.cli.options import Whole
from scorebeat.producer import unserved
from scorebeat.producer.context import Producer

RUN_COLUMNS = ("id", "job", "model", "model_version", "state", "rows_planned", "rows_scored", "rows_failed",
               "created_at", "finished_at", "reason")  # fmt: skip
BATCH_COLUMNS = ("id", "number", "state", "rows_planned", "rows_scored", "rows_failed", "attempt", "claimed_by",
                 "device", "fetch_seconds", "predict_seconds", "commit_seconds", "error")  # fmt: skip
FAILURE_COLUMNS = ("kind", "run", "count", "rows", "example", "error")
FIRST_KEYS = 10


@click.command()
@click.option("--job", help="Runs of this job only, also of one that left jobs.toml.")
@click.option("--limit", type=Whole(min=1), default=20, show_default=True, help="The newest so many.")
@click.option("--all", "with_idle", is_flag=True, help="Also the ticks that found nothing to score.")
@out.as_json
def runs(job: str | None, limit: int, with_idle: bool, as_json: bool) -> None:
    """List runs, the newest first; without the ticks that found nothing to score.

    \b
    Example:
        scorebeat runs --job iris --limit 5
    """
    with database() as p, p.engine.connect() as connection:
        if job is not None:
            jobs.require_known(connection, job)
        lines = status.newest(connection, limit, job, with_idle=with_idle)
        warnings = unserved.of_runs(connection, lines)
    if as_json:
        out.print_json([_run(line) for line in lines])
    else:
        out.table(
            [_run(line) for line in lines], RUN_COLUMNS, "there are no runs yet; `scorebeat enqueue JOB` makes one"
        )
    for line in warnings:
        out.note(line)


@click.command()
@click.argument("run", type=int)
@click.option("--batch", type=int, help="This batch of the run, with its first and last keys.")
@click.option("--keys", "keys_only", is_flag=True, help="With --batch: its keys and nothing else, as CSV.")
@out.as_json
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
    with database() as p:
        if batch is None:
            _show_run(p, run, as_json=as_json)
        else:
            _show_batch(p, run, batch, keys_only=keys_only, as_json=as_json)


@click.command()
@click.argument("run", type=int, required=False)
@out.as_json
def failures(run: int | None, as_json: bool) -> None:
    """Show dead batches, quarantined rows and runs that never began, of one RUN or of all, grouped by their error.

    \b
    Example:
        scorebeat failures 3
    """
    with database() as p, p.engine.connect() as connection:
        if run is not None:
            status.get(connection, run)
        found = status.failures(connection, run)
    if as_json:
        out.print_json([{**row, "rows": int(row["rows"])} for row in found])
        return
    out.table(
        [{**row, "rows": int(row["rows"])} for row in found],
        FAILURE_COLUMNS,
        "no batch is dead and no row is in quarantine",
    )
    if any(row["rows"] for row in found):
        out.note("`scorebeat requeue RUN` puts all of it back, `--error TEXT` what has TEXT in its error")


def _run(line: RunLine) -> dict[str, Any]:
    """A run as programs read it; the names are promised."""
    values = {name: getattr(line, name) for name in RUN_COLUMNS}
    more = ("due_at", "deadline_at", "planned_at", "created_by", "batches", "batches_open", "batches_dead", "queue")
    return values | {name: getattr(line, name) for name in more}


def _show_run(p: Producer, run: int, *, as_json: bool) -> None:
    with p.engine.connect() as connection:
        line = status.get(connection, run)
        if as_json:
            out.print_json(_run(line) | {"batches": status.batches(connection, run)})
            return
        states = status.batch_states(connection, run)
        last = status.last_error(connection, run)
        warnings = unserved.of_runs(connection, [line])
    out.fields(_run(line) | {"took": None if line.seconds is None else out.duration(line.seconds)})
    click.echo()
    columns = ("state", "batches", "rows_planned", "rows_scored", "rows_failed", "attempts", "fetch_seconds",
               "predict_seconds", "commit_seconds")  # fmt: skip
    counts = [{**row, **{name: int(row[name]) for name in columns[2:5]}} for row in states]
    out.table(counts, columns, "no batches: nothing was pending" if line.is_final else "no batches yet")
    if last is not None:
        again = f"{last['batches']} batch{'es' * (last['batches'] != 1)}, to be tried again"
        click.echo(f"\nfailed before: {again}; the last error, of batch {last['id']}, attempt {last['attempt']}:")
        click.echo(f"  {out.cell(last['error'])}")
    for warning in warnings:
        out.note(warning)


def _show_batch(p: Producer, run: int, batch: int, *, keys_only: bool, as_json: bool) -> None:
    with planning.reading(p.engine) as connection:
        status.get(connection, run)
        found = status.batches(connection, run, batch)
        if not found:
            raise UnknownName(f"run {run} has no batch {batch}; `scorebeat show {run} --json` lists its batches")
        its_run = run_rows.get(connection, run)
        described = source.describe(connection, p.url, its_run.job, its_run.values)
        if its_run.selection.where is not None:  # the role that runs may write one, and we may be another
            filters.require_filter(connection, p.url, described, its_run.selection.where)
        target = prediction_sets.get(connection, its_run.prediction_set_id)
        if not found[0]["is_list"]:
            _require_predictions(connection, its_run, target)
        keys = batch_keys.of_batch(connection, described, its_run, target, batch)
        if as_json:
            out.print_json(found[0] | {"keys": [list(key) for key in keys]})
        elif keys_only:
            # `csv` quotes a carriage return only where lines end with it, and a reader takes it for the end of one
            usual = csv.writer(sys.stdout, lineterminator="\n")
            quoted = csv.writer(sys.stdout, lineterminator="\n", quoting=csv.QUOTE_ALL)
            for key in keys:
                (quoted if any("\r" in part for part in key) else usual).writerow(key)
        else:
            _print_batch(found[0], list(islice(keys, FIRST_KEYS + 1)))


def _require_predictions(connection: Connection, run: Run, target: PredictionSet) -> None:
    """Which rows of its range a batch scored, its predictions say. Raises UsageError when they were dropped."""
    versions.get(connection, run.model, run.model_version)
    try:
        set_drops.require_table(connection, target)
    except UsageError:
        raise UnknownName(
            f"{target.table} was dropped, so nobody knows any more which rows the batches of run {run.id} scored; "
            f"`scorebeat show {run.id}` has their counts"
        ) from None


def _print_batch(values: dict[str, Any], first: list[Key]) -> None:
    kind = "list of keys" if values["is_list"] else "range of keys"
    shown = {name: values[name] for name in BATCH_COLUMNS}
    out.fields(shown | {"kind": kind, "from": ", ".join(values["first_key"]), "to": ", ".join(values["last_key"])})
    click.echo()
    for key in first[:FIRST_KEYS]:
        click.echo(", ".join(out.cell(text) for text in key))
    if len(first) > FIRST_KEYS:
        click.echo("...  (all by --keys)")
