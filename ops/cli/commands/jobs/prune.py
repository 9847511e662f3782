"""`prune`: delete what is old and no longer needed."""

from datetime import timedelta

import click

from scorebeat.core.text.durations import parse_duration
from scorebeat.ops.cli import output
from scorebeat.ops.cli.context import database
from scorebeat.producer import retention as pruning
from scorebeat.producer.context import whoami


def _duration(_context: click.Context, _option: click.Parameter, value: str) -> timedelta:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.option("--older-than", required=True, metavar="DURATION", callback=_duration, help="Such as 90d.")
@click.option("--dry-run", is_flag=True, help="Count what would go, and change nothing.")
@click.option("--even-most", is_flag=True, help="Also where over a tenth of old predictions have no source row.")
@click.option("--job", metavar="JOB", help="Only what this job has without a source row.")
@output.as_json
def prune(older_than: timedelta, dry_run: bool, even_most: bool, job: str | None, as_json: bool) -> None:
    """Delete what is old: batches of ended runs, tracebacks, old generations, predictions without a source row.

    Runs stay, with their counts. What an open run needs is never touched.

    \b
    Example:
        scorebeat prune --older-than 90d --dry-run
    """
    with database() as producer:
        if dry_run:
            done = pruning.preview(producer, older_than, even_most=even_most, job=job)
        else:
            done = pruning.run(producer, older_than, whoami(), even_most=even_most, job=job)
    rows = [{"kind": name, "count": number} for name, number in done.counts.items()]
    if as_json:
        output.print_json(rows)
    else:
        output.table(rows, ("kind", "count"), "")
    for line in done.notes:
        output.note(line)
    if dry_run:
        output.note("nothing was changed; the same without --dry-run deletes it")
