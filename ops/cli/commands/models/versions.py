"""`models compare`, `publish`, `rollback`: compare and publish a version that was added."""

import math
from dataclasses import asdict, fields
from typing import Any

import click

from scorebeat.core.errors import UsageError
from scorebeat.core.identifiers import version_of
from scorebeat.db.predictions.comparison import Agreement
from scorebeat.ops.cli import output
from scorebeat.ops.cli.context import database
from scorebeat.producer.context import whoami
from scorebeat.producer.versions import comparison
from scorebeat.producer.versions import publish as publishing
from scorebeat.producer.versions.comparison import VersionComparison, share

OUTPUT_COLUMNS = ("output", "equal", "largest_difference", "mean_difference")


@click.command()
@click.argument("version", metavar="NAME/V")
@click.option("--with", "other", metavar="NAME/W", help="Compare with this version instead of the published one.")
@output.as_json
def compare(version: str, other: str | None, as_json: bool) -> None:
    """Show how far the predictions of version V agree with the published ones, a job at a time.

    Reads both tables and changes nothing.

    \b
    Example:
        scorebeat models compare iris/4
    """
    name, number = version_of(version)
    beside = None
    if other is not None:
        other_name, beside = version_of(other)
        if other_name != name:
            raise UsageError(f"--with {other!r} is another model; expected a version of {name!r}, such as {name}/1")
    with database() as producer:
        found = comparison.compare(producer, name, number, beside)
    if as_json:
        output.print_json([_json(compared) for compared in found])
        return
    for index, compared in enumerate(found):
        click.echo("\n" * bool(index), nl=False)
        _print(compared)


@click.command()
@click.argument("version", metavar="NAME/V")
@click.option(
    "--min-coverage",
    type=click.FloatRange(0, 1),
    default=comparison.MIN_COVERAGE,
    show_default=True,
    help="Refuse if V scored a smaller share of the rows that the published version scored.",
)
@click.option("--force", is_flag=True, help="Publish whatever speaks against it.")
def publish(version: str, min_coverage: float, force: bool) -> None:
    """Show version V of model NAME, and score it from now on, in every job that follows the model.

    Refused when readers would lose by it: V lacks an output or gives it another type, gives every row the same, or
    scored too little; and when its files are gone or altered.

    \b
    Example:
        scorebeat publish iris/4
    """
    name, number = version_of(version)
    with database() as producer:
        if force:
            switched = publishing.publish_anyway(producer, name, number, whoami())
        else:
            switched = publishing.publish(producer, name, number, whoami(), min_coverage)
        unscored = comparison.unscored(producer, name, number)
    click.echo(f"model {name}/{number} is published; {_switched(switched)}")
    _note_unscored(f"{name}/{number}", unscored)


@click.command()
@click.argument("name")
@click.option("--force", is_flag=True, help="Go back whatever readers lose by it.")
def rollback(name: str, force: bool) -> None:
    """Publish the version of model NAME that was published before today's.

    Again, and it is the one before that. Refused where `publish` of that version would be.

    \b
    Example:
        scorebeat rollback iris
    """
    with database() as producer:
        go_back = publishing.rollback_anyway if force else publishing.rollback
        version, switched = go_back(producer, name, whoami())
        unscored = comparison.unscored(producer, name, version.version)
    click.echo(f"model {version} is published again; {_switched(switched)}")
    _note_unscored(str(version), unscored)


def _switched(jobs: list[str]) -> str:
    return f"jobs that show it: {', '.join(jobs)}" if jobs else "no job follows the model"


def _note_unscored(version: str, jobs: list[str]) -> None:
    for job in jobs:
        output.note(
            f"{version} was never scored for {job}, so readers see nothing of it; `scorebeat enqueue {job}` scores it"
        )


def _print(compared: VersionComparison) -> None:
    found = compared.agreement
    for version in compared.never_scored:
        click.echo(
            f"job {compared.job}: {version} was never scored; "
            f"`scorebeat enqueue {compared.job} --model {version}` does it"
        )
    if found is None:
        return
    if not compared.never_scored:
        covers = ""
        if compared.coverage is not None:
            covers = f", {share(compared.coverage)} of what {compared.other} scored of today's rows"
        click.echo(
            f"job {compared.job}: {compared.model} scored {found.rows:,} rows, {compared.other} {found.rows_other:,}, "
            f"both {found.rows_both:,}{covers}"
        )
        rows = [
            {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in asdict(column).items()}
            | {"equal": None if column.equal is None else share(column.equal)}
            for column in found.outputs
        ]
        output.table(rows, OUTPUT_COLUMNS, "")
    for words, names in (
        (f"the same in all {found.rows:,} rows of {compared.model}:", found.constant),
        (f"only {compared.model} gives", found.only),
        (f"only {compared.other} gives", found.only_other),
        ("of another type:", found.changed),
    ):
        if names:
            click.echo(f"{words} {', '.join(names)}")


def _json(compared: VersionComparison) -> dict[str, Any]:
    """The comparison in JSON. JSON has no NaN, so a difference that is not finite is null."""
    head = asdict(compared)
    found: dict[str, Any] = head.pop("agreement") or {field.name: None for field in fields(Agreement)}
    if compared.never_scored:
        found["outputs"] = []
    found["outputs"] = [
        {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in column.items()
        }
        for column in found["outputs"]
    ]
    return head | found
