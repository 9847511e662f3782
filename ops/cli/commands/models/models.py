"""`models list` and `models add`: list the versions of models, and add one."""

import re
from pathlib import Path
from typing import Any

import click

from scorebeat.core.errors import UsageError
from scorebeat.db.ledger import jobs, model_versions
from scorebeat.db.reports import status
from scorebeat.db.reports.forecasts import shares
from scorebeat.db.source.selection import planning_cursor
from scorebeat.db.source.values import parameter_values
from scorebeat.models.contract import AddOptions
from scorebeat.models.engines import CHOSEN_NATIVE, ENGINES, EngineChoice
from scorebeat.models.inputs.sample_file import MOST, SampleFile
from scorebeat.models.inputs.samples import Sample
from scorebeat.models.trial.reference import MOST as MOST_OF_REFERENCE
from scorebeat.ops.cli import output
from scorebeat.ops.cli.commands.models.models_change import drop, rename
from scorebeat.ops.cli.commands.models.versions import compare
from scorebeat.ops.cli.context import database
from scorebeat.ops.cli.ending import leaving_nothing
from scorebeat.producer.context import Producer, whoami
from scorebeat.producer.versions import publish as publishing
from scorebeat.producer.versions.comparison import share
from scorebeat.producer.versions.sample_job import SampleJob, SampleQuery

NAMED = ("inputs", "outputs", "classes")
"""Options whose value is a list of names, separated by commas."""
SHOWN = 20
"""Inputs or outputs of a new version that are printed."""
COLUMNS = ("model", "format", "engine", "published_at", "digest", "rows_scored", "done", "added_at", "added_by")


@click.group()
def models() -> None:
    """List, add, compare, drop or rename models and versions of them.

    \b
    Example:
        scorebeat models list
    """


models.add_command(compare)
models.add_command(drop)
models.add_command(rename)


@models.command("list")
@click.option("--name", help="Versions of this model only.")
@output.as_json
def list_versions(name: str | None, as_json: bool) -> None:
    """List the versions of all models, and since when the published ones are.

    DONE is the share that a version scored of the rows that the model's jobs have now.

    \b
    Example:
        scorebeat models list --name iris
    """
    with database() as producer, planning_cursor.reading(producer.engine) as connection:
        found = model_versions.listing(connection, name)
        names = {version.name for version in found}
        users = [row.job for row in jobs.listing(connection) if row.job.model_name in names]
        counts = {
            job.name: shares.rows_of(connection, job)
            for job in users
            if not parameter_values.differ_by_run(connection, job)  # else the number of all rows is unknown
        }
        for job, count in counts.items():
            if count is None:
                output.note(f"the rows of job {job} cannot be counted now; `scorebeat check` shows why")
        counted = {job: count for job, count in counts.items() if count is not None}
        scored = status.rows_scored_by(connection)
        seen = publishing.evidence(connection)
        rows: list[dict[str, Any]] = [
            {
                "model": str(version),
                "name": version.name,
                "version": version.version,
                "format": version.format,
                "engine": version.engine,
                "engine_choice": version.engine_choice,
                "published_at": version.published_at if version.published else None,
                "digest": version.digest,
                "rows_scored": scored.get((version.name, version.version), 0),
                "done": shares.done(connection, version.name, version.version, users, counted),
                "added_at": version.added_at,
                "added_by": version.added_by,
                "evidence": seen[str(version)].to_json() if str(version) in seen else None,
            }
            for version in found
        ]
    if as_json:
        output.print_json(rows)
        return
    shown = [
        row | {"digest": row["digest"][:12], "done": None if row["done"] is None else share(row["done"])}
        for row in rows
    ]
    output.table(shown, COLUMNS, "there are no models yet; `scorebeat models add FILE --name NAME` adds one")


@models.command("add")
@click.argument("source", metavar="PATH")
@click.option("--name", required=True, help="The model's name, as jobs.toml has it.")
@click.option("--inputs", help="Names of the inputs, with commas between, where the file has none: a,b:int64.")
@click.option("--outputs", help="Names of the outputs, likewise.")
@click.option("--classes", help="Names of a classifier's classes, likewise, in the model's order.")
@click.option("--trust", multiple=True, metavar="TYPE", help="Load this type of a .skops file, too; may be repeated.")
@click.option(
    "--allow-code",
    multiple=True,
    type=click.Choice(["pickle", "mlflow"]),
    help="Accept a format that runs whatever code its file holds.",
)
@click.option(
    "--file", "files", multiple=True, metavar="FILE", help="A file that a Python class opens; may be repeated."
)
@click.option(
    "--sample",
    "sample_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Try the model on rows of this file, .csv, .parquet or .json, against its own library's predictions.",
)
@click.option("--sample-job", metavar="JOB", help="Try it on rows of this job's query.")
@click.option(
    "--sample-rows", type=click.IntRange(1, 100_000), default=MOST, show_default=True, help="At most so many rows."
)
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Training data, .csv, .parquet or .json: runs are compared with it, instead of with the first whole run.",
)
@click.option("--reference-query", metavar="SQL", help="Training data as a query of the database returns it.")
@click.option(
    "--golden",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Inputs and the outputs that the model must return for them: a worker that computes others refuses it.",
)
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    help="Score by this engine, instead of the fastest of those that return the same numbers.",
)
@click.option(
    "--allow-unsteady",
    is_flag=True,
    help="Accept a model whose predictions of a row depend on other rows, or on chance.",
)
def add_version(
    source: str,
    name: str,
    trust: tuple[str, ...],
    allow_code: tuple[str, ...],
    files: tuple[str, ...],
    **options: Any,
) -> None:
    """Add PATH as the next version of model NAME: a file, an MLflow folder, or a Python class, module:Class.

    It is tried first: on your rows with --sample or --sample-job, else on invented ones. A model's first version is
    published when it scored rows.

    \b
    Example:
        scorebeat models add model.skops --name iris --inputs a,b,c,d --sample iris.csv
    """
    with leaving_nothing(), database() as producer:
        inputs, outputs, classes = (_names(f"--{option}", options[option]) for option in NAMED)
        add_options = AddOptions(
            inputs,
            outputs,
            classes,
            trusted=frozenset(trust),
            code=frozenset(allow_code),
            files=files,
            reference=_reference(producer, options),
            golden=options["golden"],
            engine=options["engine"] or "",
            unsteady=options["allow_unsteady"],
        )
        added = publishing.add(producer, source, name, whoami(), add_options, _sample(producer, options))
    version = added.version
    existing = "has its files back" if added.artifact.put_back else "is there already"
    how = "added" if added.artifact.is_new else existing
    click.echo(f"model {version} {how}{' and published' * version.published} (digest {version.digest[:12]})")
    signature = added.artifact.signature
    click.echo(f"inputs   {_listing([str(column) for column in signature.inputs])}")
    click.echo(f"outputs  {_listing([f'{column.name} {column.type}' for column in signature.outputs])}")
    if added.artifact.evidence is not None:
        click.echo(f"evidence {added.artifact.evidence}")
    engine = EngineChoice.from_json(version.engine_choice)
    if engine != CHOSEN_NATIVE:
        click.echo(f"engine   {engine}")
    if added.jobs:
        click.echo(f"jobs     {', '.join(added.jobs)}")
    for line in (*added.artifact.notes, *added.notes):
        output.note(line)
    if not version.published:
        click.echo(
            f"score it with `scorebeat enqueue JOB --model {version}`, show it with `scorebeat publish {version}`"
        )


def _reference(producer: Producer, options: dict[str, Any]) -> Sample | None:
    file, query = options["reference"], options["reference_query"]
    if file is not None and query is not None:
        raise UsageError("--reference and --reference-query each name the training data: give one of them")
    if file is not None:
        return SampleFile(file, MOST_OF_REFERENCE, "--reference")
    return SampleQuery(producer, query, MOST_OF_REFERENCE) if query is not None else None


def _sample(producer: Producer, options: dict[str, Any]) -> Sample | None:
    file, job = options["sample_file"], options["sample_job"]
    if file is not None and job is not None:
        raise UsageError("--sample and --sample-job each name the rows to try the model on: give one of them")
    if file is not None:
        return SampleFile(file, options["sample_rows"])
    return SampleJob(producer, job, options["sample_rows"]) if job is not None else None


def _listing(columns: list[str]) -> str:
    more = f" and {len(columns) - SHOWN:,} more" if len(columns) > SHOWN else ""
    return ", ".join(columns[:SHOWN]) + more


def _names(option: str, text: str | None) -> tuple[str, ...]:
    names = tuple(part.strip() for part in re.split(r",(?![^\[]*\])", text)) if text is not None else ()
    if "" in names or len(set(names)) < len(names):
        raise UsageError(f"{option} {text!r}: expected different names with commas between, such as a,b,c")
    return names
