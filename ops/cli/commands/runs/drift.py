"""`drift`, `release`, `discard`: how far a run is from its reference, and a person's decision on a held one."""

from typing import Any

import click

from scorebeat.core.errors import UsageError
from scorebeat.db.ledger import jobs
from scorebeat.db.ledger.evidence.profiles import RunDrift
from scorebeat.db.reports import drift as comparisons
from scorebeat.db.reports import status
from scorebeat.ops.cli import output as out
from scorebeat.ops.cli.context import database
from scorebeat.producer.context import whoami
from scorebeat.producer.requests import release as decisions

COLUMNS = ("side", "name", "missing_before", "missing_now", "mean_before", "mean_now", "median_before", "median_now",
           "psi", "distance", "too_far")  # fmt: skip


@click.command()
@click.argument("job")
@click.option("--run", type=int, help="This run of the job; the newest one that was compared if left out.")
@out.as_json
def drift(job: str, run: int | None, as_json: bool) -> None:
    """Show how far a run of JOB is from its reference, by input and output; what is too far comes first.

    \b
    Example:
        scorebeat drift iris
        scorebeat drift iris --run 3
    """
    with database() as p, p.engine.connect() as connection:
        jobs.require_known(connection, job)
        compared = comparisons.of_job(connection, job) if run is None else comparisons.of_run(connection, run)
        line = status.get(connection, compared.run)
        newer = status.newest(connection, 1, job, with_idle=False)[0]
    if line.job != job:
        raise UsageError(f"run {line.id} is one of job {line.job}: `scorebeat drift {line.job} --run {line.id}`")
    if as_json:
        out.print_json(_json(compared, line.state.value))
        return
    click.echo(f"run {line.id} of job {job}, {line.state}, {compared.rows:,} rows of the sample")
    click.echo(out.cell(comparisons.in_words(compared)))
    if compared.findings is not None:
        click.echo()
        first = sorted(compared.findings, key=lambda finding: not finding.reasons)
        out.table([_row(finding.columns) for finding in first], COLUMNS, "neither has an input or output of the other")
    if run is None and newer.id > line.id:
        out.note(f"run {newer.id} is newer: `scorebeat drift {job} --run {newer.id}`")


@click.command()
@click.argument("run", type=int)
@click.option("--why", metavar="TEXT", default="", help="The reason, which the ledger records with your name.")
def release(run: int, why: str) -> None:
    """Show a held RUN to readers, although it did not pass the gate of its job.

    \b
    Example:
        scorebeat release 3 --why "the campaign began"
    """
    with database() as p:
        decisions.release(p, run, whoami(), why)
        with p.engine.connect() as connection:
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
    with database() as p:
        decisions.discard(p, run, whoami(), why)
        with p.engine.connect() as connection:
            line = status.get(connection, run)
    click.echo(f"run {run} of job {line.job} is {line.state}: {out.cell(line.reason)}")


def _json(compared: RunDrift, state: str) -> dict[str, Any]:
    """The names are a promise to programs, the same as over HTTP."""
    findings = None if compared.findings is None else [finding.columns for finding in compared.findings]
    return {
        "run": compared.run,
        "state": state,
        "rows": compared.rows,
        "reference": compared.reference,
        "compared_at": compared.compared_at,
        "why_not": compared.why_not,
        "findings": findings,
    }


def _row(values: dict[str, Any]) -> dict[str, str | None]:
    forms = {"missing": ".1%", "psi": ".2f", "distance": ".2f", "mean": ".4g", "median": ".4g"}
    numbers = {
        name: format(value, forms[name.split("_")[0]]) for name, value in values.items() if isinstance(value, float)
    }
    return {
        "side": values["side"],
        "name": values["name"],
        **numbers,
        "too_far": "; ".join(values["reasons"]) or None,
    }
