"""`drift`, `release`, `discard`: how far a run is from its reference, and a person's decision on a held one."""

import click

from scorebeat.core.errors import UsageError
from scorebeat.db.ledger import jobs
from scorebeat.db.reports import drift as comparisons
from scorebeat.db.reports import status
from scorebeat.ops.cli import output
from scorebeat.ops.cli.context import database
from scorebeat.producer.context import whoami
from scorebeat.producer.requests import release as decisions

COLUMNS = ("side", "name", "missing_before", "missing_now", "mean_before", "mean_now", "median_before", "median_now",
           "psi", "distance", "too_far")  # fmt: skip
FORMATS = {"missing": ".1%", "psi": ".2f", "distance": ".2f", "mean": ".4g", "median": ".4g"}
"""How the numbers of a column are printed, by the beginning of its name."""


@click.command()
@click.argument("job")
@click.option("--run", type=int, help="This run of the job; the newest one that was compared if left out.")
@output.as_json
def drift(job: str, run: int | None, as_json: bool) -> None:
    """Show how far a run of JOB is from its reference, by input and output; what is too far comes first.

    \b
    Example:
        scorebeat drift iris
        scorebeat drift iris --run 3
    """
    with database() as producer, producer.engine.connect() as connection:
        jobs.require_known(connection, job)
        compared = comparisons.of_job(connection, job) if run is None else comparisons.of_run(connection, run)
        line = status.get(connection, compared.run)
        newer = status.newest(connection, 1, job, with_idle=False)[0]
    if line.job != job:
        raise UsageError(f"run {line.id} is one of job {line.job}: `scorebeat drift {line.job} --run {line.id}`")
    if as_json:  # the names are a promise to programs, the same as over HTTP
        findings = None if compared.findings is None else [finding.columns for finding in compared.findings]
        output.print_json(
            {
                "run": compared.run,
                "state": line.state.value,
                "rows": compared.rows,
                "reference": compared.reference,
                "compared_at": compared.compared_at,
                "why_not": compared.why_not,
                "findings": findings,
            }
        )
        return
    click.echo(f"run {line.id} of job {job}, {line.state}, {compared.rows:,} rows of the sample")
    click.echo(output.cell(comparisons.in_words(compared)))
    if compared.findings is not None:
        click.echo()
        rows = []
        for finding in sorted(compared.findings, key=lambda finding: not finding.reasons):
            numbers = {
                name: format(value, FORMATS[name.split("_")[0]])
                for name, value in finding.columns.items()
                if isinstance(value, float)
            }
            too_far = "; ".join(finding.reasons) or None
            rows.append({"side": finding.side, "name": finding.name, **numbers, "too_far": too_far})
        output.table(rows, COLUMNS, "neither has an input or output of the other")
    if run is None and newer.id > line.id:
        output.note(f"run {newer.id} is newer: `scorebeat drift {job} --run {newer.id}`")


@click.command()
@click.argument("run", type=int)
@click.option("--why", metavar="TEXT", default="", help="The reason, which the ledger records with your name.")
def release(run: int, why: str) -> None:
    """Show a held RUN to readers, although it did not pass the gate of its job.

    \b
    Example:
        scorebeat release 3 --why "the campaign began"
    """
    with database() as producer:
        decisions.release(producer, run, whoami(), why)
        with producer.engine.connect() as connection:
            line = status.get(connection, run)
    click.echo(f"run {run} of job {line.job} is {line.state}: readers see it")


@click.command()
@click.argument("run", type=int)
@click.option("--why", metavar="TEXT", default="", help="The reason, which the ledger records with your name.")
def discard(run: int, why: str) -> None:
    """Drop what a held RUN scored; readers keep what they see.

    \b
    Example:
        scorebeat discard 3 --why "the load of the night was broken"
    """
    with database() as producer:
        decisions.discard(producer, run, whoami(), why)
        with producer.engine.connect() as connection:
            line = status.get(connection, run)
    click.echo(f"run {run} of job {line.job} is {line.state}: {output.cell(line.reason)}")
