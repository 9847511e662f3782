"""`jobs drop` and `jobs rename`. They show first what readers lose."""

import click

from scorebeat.ops.cli import confirm
from scorebeat.ops.cli.context import database
from scorebeat.producer.context import whoami


@click.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(name: str, yes: bool) -> None:
    """Drop job NAME, also one that left its file: its view, all of its predictions, and what it has in quarantine.

    Refused while a run of it is open. Its runs stay in the list of runs. To stop a job and keep its predictions, take
    it out of its file and run `scorebeat apply --prune`.

    \b
    Example:
        scorebeat jobs drop iris
    """
    from scorebeat.producer.requests import change_job  # noqa: PLC0415 -- what changes views loads Arrow, `jobs` alone does not

    with database() as producer:
        lost = change_job.look(producer, name)
        view = f"the view {lost.view} and " if lost.view is not None else ""
        tables = f"{lost.predictions:,} predictions in {len(lost.tables)} table{'s' * (len(lost.tables) != 1)}"
        click.echo(f"Readers lose {view}{tables} of job {name}.")
        if not yes:
            confirm.require_yes(f"Drop job {name}?")
        gone = change_job.drop(producer, name, whoami())
    click.echo(f"job {name} is dropped, and {gone.predictions:,} predictions with it")
    if gone.owner is not None:
        click.echo(f"take it out of {gone.owner}: the next `scorebeat apply` makes it anew while it is there")


@click.command()
@click.argument("old")
@click.argument("new")
@click.option("--yes", is_flag=True, help="Do not ask.")
def rename(old: str, new: str, yes: bool) -> None:
    """Give job OLD the name NEW: its view, its tables and its runs have it, too. No prediction is touched.

    Refused while a run of it is open. Views that read the job's view go on; queries that name it must be changed.

    \b
    Example:
        scorebeat jobs rename iris flowers
    """
    from scorebeat.producer.requests import change_job  # noqa: PLC0415 -- as above

    with database() as producer:
        at_stake = change_job.look(producer, old, new)
        if at_stake.view is not None:
            click.echo(f"Readers of predictions.{old} find nothing there any more: it is predictions.{new} then.")
        if not yes:
            confirm.require_yes(f"Rename job {old} to {new}?", "Nothing was renamed.")
        moved = change_job.rename(producer, old, new, whoami())
    click.echo(f"job {old} is {new} now, with {moved.predictions:,} predictions")
    if moved.owner is not None:
        click.echo(f"rename it in {moved.owner}, too: the next `scorebeat apply` makes a new job {old} else")
