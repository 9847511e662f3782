"""`models`, `publish`, `rollback`: versions of models, and which one is shown."""

import click

from core.errors import UsageError
from db import status, versions
from models.contract import Given
from ops.cli import show
from ops.cli.context import database, whoami
from producer import publish as publishing

COLUMNS = ("model", "format", "published_at", "digest", "rows_scored", "added_at", "added_by")


@click.group()
def models() -> None:
    """List or add versions of models.

    \b
    Example:
        scorebeat models list
    """


@models.command("list")
@click.option("--name", help="Versions of this model only.")
@show.as_json
def list_versions(name: str | None, as_json: bool) -> None:
    """List the versions of all models; the published ones have a date.

    \b
    Example:
        scorebeat models list --name iris
    """
    with database() as p, p.engine.connect() as connection:
        found = versions.listing(connection, name)
        scored = status.rows_scored_by(connection)
    rows = [
        {
            "model": str(v),
            "name": v.name,
            "version": v.version,
            "format": v.format,
            "published_at": v.published_at if v.published else None,
            "digest": v.digest if as_json else v.digest[:12],
            "rows_scored": scored.get((v.name, v.version), 0),
            "added_at": v.added_at,
            "added_by": v.added_by,
        }
        for v in found
    ]
    if as_json:
        show.print_json(rows)
    else:
        show.table(rows, COLUMNS, "there are no models yet; `scorebeat models add FILE --name NAME` adds one")


@models.command("add")
@click.argument("source", metavar="PATH")
@click.option("--name", required=True, help="The model's name, as jobs.toml has it.")
@click.option("--inputs", help="Names of the inputs, with commas between, where the file has none: a,b:int64.")
@click.option("--outputs", help="Names of the outputs, likewise.")
@click.option("--classes", help="Names of a classifier's classes, likewise, in the model's order.")
@click.option(
    "--trust", multiple=True, metavar="TYPE", help="Load this type of a .skops file, too; may be given again."
)
@click.option(
    "--allow-code",
    multiple=True,
    type=click.Choice(["pickle", "mlflow"]),
    help="Accept a format that runs whatever code its file holds.",
)
@click.option(
    "--file", "files", multiple=True, metavar="FILE", help="A file that a Python class opens; may be given again."
)
def add_version(
    source: str,
    name: str,
    trust: tuple[str, ...],
    allow_code: tuple[str, ...],
    files: tuple[str, ...],
    **names: str | None,
) -> None:
    """Add PATH as the next version of model NAME: a file, an MLflow folder, or a Python class, module:Class.

    A model's first version is published.

    \b
    Example:
        scorebeat models add model.skops --name iris --inputs a,b,c,d
    """
    with database() as p:
        given = Given(
            **{option: _names(f"--{option}", text) for option, text in names.items()},
            trusted=frozenset(trust),
            code=frozenset(allow_code),
            files=files,
        )
        added = publishing.add(p, source, name, whoami(), given)
    version = added.version
    how = "added" if added.artifact.is_new else "is there already"
    click.echo(f"model {version} {how}{' and published' * version.published} (digest {version.digest[:12]})")
    click.echo(f"inputs   {', '.join(map(str, added.artifact.signature.inputs))}")
    click.echo(f"outputs  {', '.join(f'{o.name} {o.type}' for o in added.artifact.signature.outputs)}")
    if added.jobs:
        click.echo(f"jobs     {', '.join(added.jobs)}")
    for line in added.notes:
        show.note(line)
    if not version.published:
        click.echo(
            f"score it with `scorebeat enqueue JOB --model {version}`, show it with `scorebeat publish {version}`"
        )


@click.command()
@click.argument("version", metavar="NAME/V")
def publish(version: str) -> None:
    """Show version V of model NAME, and score it from now on, in every job that follows the model.

    \b
    Example:
        scorebeat publish iris/4
    """
    name, slash, number = version.rpartition("/")
    if not slash or not number.isascii() or not number.isdecimal() or len(number) > 9:
        raise UsageError(f"{version!r} is not a version of a model; expected one such as iris/4")
    with database() as p:
        switched = publishing.publish(p, name, int(number), whoami())
    click.echo(f"model {name}/{int(number)} is published; {_switched(switched)}")


@click.command()
@click.argument("name")
def rollback(name: str) -> None:
    """Publish the version of model NAME that was published before today's.

    \b
    Example:
        scorebeat rollback iris
    """
    with database() as p:
        version, switched = publishing.rollback(p, name, whoami())
    click.echo(f"model {version} is published again; {_switched(switched)}")


def _switched(jobs: list[str]) -> str:
    return f"jobs that show it: {', '.join(jobs)}" if jobs else "no job follows the model"


def _names(option: str, text: str | None) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",")) if text is not None else ()
    if "" in names or len(set(names)) < len(names):
        raise UsageError(f"{option} {text!r}: expected different names with commas between, such as a,b,c")
    return names
