"""`requeue`, `cancel`, `pause`, `resume`: a person's actions on runs and jobs."""

import click

from scorebeat.db.ledger import jobs
from scorebeat.ops.cli import output
from scorebeat.ops.cli.context import database, database_and_broker
from scorebeat.producer.context import whoami
from scorebeat.producer.requests import requeue as by_hand


@click.command()
@click.argument("run", type=int)
@click.option("--batch", type=int, help="This batch only.")
@click.option("--error", metavar="TEXT", help="Only what failed with an error that contains this text.")
def requeue(run: int, batch: int | None, error: str | None) -> None:
    """Put what failed in a RUN back: dead batches, and rows in quarantine. Safe to repeat.

    TEXT may be in the errors of several groups that `scorebeat failures` lists: all of those are put back. Batches
    that were stopped when the run failed come back without --error, or by their number.

    \b
    Example:
        scorebeat requeue 3 --error "connection refused"
    """
    with database_and_broker() as producer:
        count = by_hand.requeue(producer, run, whoami(), batch_id=batch, error=error)
    click.echo(
        f"{count} batch{'es' * (count != 1)} of run {run} put back; `scorebeat watch {run}` shows it"
        if count
        else f"nothing that failed in run {run} matches; nothing was changed"
    )


@click.command()
@click.argument("run", type=int)
def cancel(run: int) -> None:
    """Stop an open RUN: what it scored stays, the rest is pending for the next run, rows in quarantine too.

    \b
    Example:
        scorebeat cancel 3
    """
    with database() as producer:
        moved = by_hand.cancel(producer, run, whoami())
    click.echo(f"run {run} is cancelled" if moved else f"run {run} was over already; nothing was changed")


@click.command()
@click.argument("job")
@click.option("--reason", default="by hand", show_default=True, help="Shown wherever the pause is.")
def pause(job: str, reason: str) -> None:
    """Open no runs by the schedule of JOB until it is resumed. Its open run goes on.

    \b
    Example:
        scorebeat pause iris --reason "the table is being rebuilt"
    """
    with database() as producer, producer.engine.begin() as connection:
        moved = jobs.pause(connection, job, whoami(), reason)
        row = jobs.get(connection, job)
    if moved:
        click.echo(f"job {job} is paused; `scorebeat resume {job}` ends that")
    else:
        click.echo(f"job {job} was paused before, by {row.paused_by}: {output.cell(row.paused_reason)}")


@click.command()
@click.argument("job")
def resume(job: str) -> None:
    """Open runs by the schedule of JOB again, from its next due time on.

    \b
    Example:
        scorebeat resume iris
    """
    with database() as producer, producer.engine.begin() as connection:
        moved = jobs.resume(connection, job, whoami())
    click.echo(f"job {job} is resumed" if moved else f"job {job} was not paused; nothing was changed")
