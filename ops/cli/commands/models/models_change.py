"""`models drop` and `models rename`. They show first what readers lose."""

import click

from scorebeat.core.identifiers import version_of
from scorebeat.ops.cli import confirm, output
from scorebeat.ops.cli.context import database
from scorebeat.producer.context import whoami
from scorebeat.producer.versions import change_model
from scorebeat.producer.versions import drop as dropping


@click.command()
@click.argument("model", metavar="NAME[/V]")
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(model: str, yes: bool) -> None:
    """Drop version V of model NAME: its predictions, and its files in the store. Without V, all versions of it.

    A version is refused while it is published, pinned by a job, or being scored; a model while a job uses it. Runs stay
    in the list of runs, and no number of a version is used again.

    \b
    Example:
        scorebeat models drop iris/2
        scorebeat models drop iris
    """
    with database() as producer:
        if "/" in model:
            name, number = version_of(model)
            at_stake = dropping.look(producer, name, number)
            if not yes:
                confirm.require_yes(f"Drop model {at_stake.version} with {at_stake.predictions:,} predictions?")
            dropped = dropping.drop(producer, name, number, whoami())
            click.echo(f"model {dropped.version} is dropped, and {dropped.predictions:,} predictions with it")
            notes: tuple[str, ...] = (dropped.note,) if dropped.note else ()
        else:
            goes = change_model.look(producer, model)
            change_model.require_unused(goes, model)
            if not yes:
                confirm.require_yes(f"Drop model {model} with {_versions(goes)} and {goes.predictions:,} predictions?")
            gone = change_model.drop(producer, model, whoami())
            click.echo(f"model {model} is dropped, and {_versions(gone)} and {gone.predictions:,} predictions with it")
            notes = gone.notes
        for line in notes:
            output.note(line)


@click.command()
@click.argument("old")
@click.argument("new")
@click.option("--yes", is_flag=True, help="Do not ask.")
def rename(old: str, new: str, yes: bool) -> None:
    """Give model OLD the name NEW, with all its versions: no prediction is touched, and no view changes.

    Refused while it is being scored. The jobs that use it have the new name in the database at once.

    \b
    Example:
        scorebeat models rename iris flowers
    """
    with database() as producer:
        at_stake = change_model.look(producer, old, new)
        click.echo(
            f"Readers of tables such as predictions.JOB__{old}_v1 find them under the new name; the jobs' views stay."
        )
        if not yes:
            confirm.require_yes(f"Rename model {old}, {_versions(at_stake)}, to {new}?", "Nothing was renamed.")
        moved = change_model.rename(producer, old, new, whoami())
    click.echo(f"model {old} is {new} now, with {_versions(moved)}")
    if moved.jobs:
        click.echo(f'write model = "{new}" in the file of {", ".join(moved.jobs)} before the next `scorebeat apply`')
    for line in moved.notes:
        output.note(line)


def _versions(found: change_model.Model) -> str:
    return f"{len(found.versions)} version{'s' * (len(found.versions) != 1)}"
