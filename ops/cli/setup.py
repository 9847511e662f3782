"""`migrate`, `apply`, `check`: making a database ready, and telling what is wrong with it."""

from pathlib import Path

import click

from core.jobs_file import read_jobs
from ops.cli import show
from ops.cli.context import database, found_settings, unmigrated, whoami
from producer.apply import apply as apply_jobs


@click.command()
def migrate() -> None:
    """Bring the database to this version of Scorebeat.

    Makes the schemas `scorebeat` and `predictions`; tables of yours are not touched.

    \b
    Example:
        scorebeat migrate
    """
    from ops.prepare import migrate as bring_up  # noqa: PLC0415 -- the migrations' library loads slowly

    with unmigrated() as p:
        changed = bring_up(p)
    click.echo("the ledger was migrated" if changed else "the ledger is up to date")


@click.command()
@click.option("--file", type=click.Path(path_type=Path), help="The jobs file.  [default: jobs.toml]")
def apply(file: Path | None) -> None:
    """Make the jobs of the database those of jobs.toml.

    Every job's query and model are checked first; if one cannot be used, nothing is changed.

    \b
    Example:
        scorebeat apply --file jobs.toml
    """
    from ops.prepare import tell  # noqa: PLC0415

    wanted = read_jobs(file or found_settings().jobs)
    with database() as p:
        tell(apply_jobs(p, wanted, whoami()))


@click.command()
@show.as_json
def check(as_json: bool) -> int:
    """Tell whether everything is in order: servers, ledger, jobs, models, workers.

    Ends with 2 when something is wrong. Nothing is changed.

    \b
    Example:
        scorebeat check
    """
    from ops.cli.checks import check_all  # noqa: PLC0415

    findings = check_all()
    if as_json:
        show.print_json(findings)
    else:
        for finding in findings:
            click.echo(f"{finding.verdict:<8} {finding.subject}: {finding.text}")
    return 2 if any(finding.verdict == "problem" for finding in findings) else 0
