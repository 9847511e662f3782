"""`plan` and `enqueue`: preview and open a run."""

import csv
from pathlib import Path
from typing import Any

import click

from scorebeat.core.errors import UsageError
from scorebeat.db.connect.sql import Key
from scorebeat.db.ledger import jobs, runs
from scorebeat.db.ledger.runs import Selection
from scorebeat.ops.cli import output, progress
from scorebeat.ops.cli.context import database, database_and_broker
from scorebeat.ops.cli.options import Whole
from scorebeat.producer.context import Producer, whoami
from scorebeat.producer.control.notices import unserved
from scorebeat.producer.requests.enqueue import Request
from scorebeat.producer.requests.enqueue import enqueue as open_run
from scorebeat.producer.requests.preview import preview
from scorebeat.producer.requests.run_request import Labels, checked_version, time_of_job

MOST_KEYS = 1_000_000
"""They are stored in the run's row, and sent with its plan."""


@click.command()
@click.argument("job")
@output.as_json
def plan(job: str, as_json: bool) -> None:
    """Show what a run of JOB would do: rows, batches, estimated time. Nothing is changed.

    \b
    Example:
        scorebeat plan iris
    """
    with database() as producer:
        found = preview(producer, job)
    if as_json:
        output.print_json(found)
        return
    click.echo(f"job {found.job}, model {found.model}")
    for recommended in found.recommended:
        output.note(f"recommended: {recommended}; `scorebeat cost {found.job}` shows the measurements")
    if found.rows:
        batches = f"{found.batches:,} batch{'es' * (found.batches != 1)} of at most {found.batch_rows:,}"
        click.echo(f"{found.rows:,} rows pending in {batches}, each read by its key range")
        click.echo(
            f"about {output.cell(found.takes)}, between {output.cell(found.takes_least)} and "
            f"{output.cell(found.takes_most)}, if it began now: by its last runs and the runs that are open"
            if found.takes is not None
            else f"no end is forecast: {found.no_forecast}"
        )
    else:
        click.echo("nothing is pending")
    if found.rows and found.changed is not None:
        click.echo(f"{found.rows - found.changed:,} of them are new, and {found.changed:,} changed")
    if found.without_value:
        output.note(
            f"{found.without_value:,} rows have no value, or an infinite one, in the column that `changed_at` names: "
            "each is scored once, and again only when it gets a value"
        )
    if found.gone_back:
        output.note(
            f"{found.gone_back:,} rows have an older value there than the one that they were scored with, and are not "
            f"scored again: the column went back. `scorebeat enqueue {found.job} --rescore` scores every row anew"
        )
    if found.whole_for_each_batch is not None:
        output.note(found.whole_for_each_batch)
    if found.from_other_queries:
        click.echo(
            f"{found.from_other_queries:,} predictions come from another query and stay as they are; "
            f"`scorebeat enqueue {found.job} --rescore` scores every row anew"
        )
    if found.open_run is not None:
        click.echo(f"run {found.open_run} is open; it has these rows, or a part of them")
    output.explained(found.rows_from, found.cost, found.advice)


@click.command()
@click.argument("job")
@click.option("--model", metavar="M/V", help="Score this version, such as iris/4 or 4.")
@click.option("--limit", type=Whole(min=1), help="At most so many rows, the lowest keys first.")
@click.option("--where", metavar="SQL", help="Only rows for which this condition holds.")
@click.option(
    "--keys",
    "keys_file",
    type=click.Path(path_type=Path),
    help="Only the rows whose keys are in this file: one a line, CSV for several columns.",
)
@click.option("--due-at", metavar="TIME", help="What :due_at is in the query.  [default: now]")
@click.option("--parameter", "parameters", metavar="NAME=VALUE", multiple=True, help="A value for this run alone.")
@click.option(
    "--values-of",
    type=Whole(min=1),
    metavar="RUN",
    help="The :due_at and parameters of this run; other options override them.",
)
@click.option("--rescore", is_flag=True, help="Score every row anew; readers see it when the run has ended.")
@click.option("--run-key", help="A name for this run; a repeat with the same name returns the same run.")
@click.option("--wait", is_flag=True, help="Show progress until the run is over; end with 1 if it did not succeed.")
def enqueue(
    job: str,
    model: str | None,
    limit: int | None,
    where: str | None,
    keys_file: Path | None,
    run_key: str | None,
    **more: Any,
) -> int:
    """Score the rows of JOB that have no prediction yet.

    A time without an offset is in the time zone of the job's schedule.

    \b
    Example:
        scorebeat enqueue iris --wait
        scorebeat enqueue iris --model iris/4 --limit 1000
        scorebeat enqueue iris --rescore
        scorebeat enqueue iris --due-at 2026-07-01T02:30 --parameter least=5
    """
    parameters = _parameters(more["parameters"])
    with database_and_broker() as producer:
        keys = _read_keys(keys_file) if keys_file is not None else None
        wanted_keys = tuple(key for _, key in keys) if keys is not None else None
        labels = Labels("--", lambda position: f"--keys {keys_file}: line {keys[position][0] if keys else position}")
        version = checked_version(producer, job, model, where, wanted_keys, labels)
        selection = Selection(limit, where, wanted_keys)
        due_at = None if more["due_at"] is None else time_of_job(producer, job, "--due-at", more["due_at"])
        if more["values_of"] is not None:
            with producer.engine.connect() as connection:
                earlier = runs.get(connection, more["values_of"])
            if earlier.job.name != job:
                raise UsageError(
                    f"--values-of {earlier.id}: that is a run of job {earlier.job.name!r}. Nothing was enqueued"
                )
            due_at = due_at or (earlier.values.due_at if earlier.job.is_by_due_time else None)
            parameters = {name: value.text for name, value in earlier.job.parameters.items()} | parameters
        made = open_run(
            producer, Request(job, whoami(), version, selection, run_key, due_at, parameters, anew=more["rescore"])
        )
        outcome = "is enqueued" if made.is_new else f"was enqueued before by run key {run_key!r}"
        click.echo(f"run {made.run_id} of job {job} {outcome}")
        with producer.engine.connect() as connection:
            for line in unserved.of_queues(connection, {jobs.get(connection, job).job.queue}):
                output.note(line)
        return wait(producer, made.run_id) if more["wait"] else 0


def _parameters(texts: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name in found:
            what = "stands twice" if equals else "has no value"
            raise UsageError(f"--parameter {name} {what}; expected NAME=VALUE, each name once")
        found[name] = value
    return found


def wait(producer: Producer, run_id: int) -> int:
    """Follow the run to its end; returns the exit code."""
    try:
        line = progress.follow(producer, run_id)
    except KeyboardInterrupt:
        output.note(f"run {run_id} goes on; `scorebeat watch {run_id}` shows it, `scorebeat cancel {run_id}` stops it")
        raise
    click.echo(progress.summary(line))
    return progress.exit_code(line)


def _read_keys(file: Path) -> list[tuple[int, Key]]:
    """Line numbers and keys; blank lines are skipped. Raises UsageError."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines, strict=True)
            found = [(reader.line_num, tuple(key)) for key in reader if key]
    except OSError as error:
        raise UsageError(f"--keys {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"--keys {file} is not UTF-8; save it as UTF-8") from None
    except csv.Error as error:
        raise UsageError(f"--keys {file}: line {reader.line_num} is not CSV: {error}") from None
    if not found:
        raise UsageError(f"--keys {file} is empty; expected a key on each line")
    if len(found) > MOST_KEYS:
        raise UsageError(f"--keys {file} holds {len(found):,} keys; expected at most {MOST_KEYS:,}. Use --where")
    return found
