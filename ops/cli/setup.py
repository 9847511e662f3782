"""`migrate`, `apply`, `check`: making a database ready, and telling what is wrong with it."""

from pathlib import Path

import click

from scorebeat.core.errors import UsageError
from scorebeat.core.jobs_file import read_jobs
from scorebeat.core.settings import shown
from scorebeat.ops.cli import show
from scorebeat.ops.cli.context import database, found_settings, unmigrated, whoami
from scorebeat.producer.apply import apply as apply_jobs
from scorebeat.producer.apply import remove_all as remove_jobs


@click.command()
@click.option("--run-role", metavar="NAME", help="A role of PostgreSQL that gets what runs need, and no more.")
def migrate(run_role: str | None) -> None:
    """Bring the database to this version of Scorebeat.

    Makes the schemas `scorebeat` and `predictions`; tables of yours are not touched. Who runs it owns them, and needs
    to be asked again only to migrate, apply, publish and prune. Others may go on working meanwhile
    (docs/how-to/upgrade.md).

    \b
    Example:
        scorebeat migrate
        scorebeat migrate --run-role scorebeat_run
    """
    from scorebeat.ops.prepare import migrate as bring_up  # noqa: PLC0415 -- the migrations' library loads slowly

    with unmigrated() as p:
        done = bring_up(p, run_role)
    if done.is_newer:
        click.echo(f"the ledger is of a newer version (revision {done.now}) and serves this one; nothing was changed")
        return
    click.echo("the ledger was migrated" if done.changed else "the ledger is up to date")
    if run_role is not None:
        click.echo(f"the role {run_role} may do what runs need")


@click.command()
@click.option("--file", type=click.Path(path_type=Path), help="The jobs file.  [default: jobs.toml]")
@click.option("--remove-all", is_flag=True, help="The file holds no job, and that is meant: remove every job.")
def apply(file: Path | None, remove_all: bool) -> None:
    """Make the jobs of the database those of jobs.toml.

    Every job's query and model are checked first; if one cannot be used, nothing is changed. A file without a single
    job is refused while the database has some, unless you mean it. Runs and predictions of removed jobs stay.

    \b
    Example:
        scorebeat apply --file jobs.toml
    """
    from scorebeat.ops.prepare import tell  # noqa: PLC0415

    file = file or shown(found_settings().jobs)
    wanted = read_jobs(file)
    if remove_all and wanted:
        names = ", ".join(job.name for job in wanted)
        raise UsageError(f"--remove-all is for a jobs file without jobs, and {file} holds {names}. Nothing was removed")
    with database() as p:
        tell(remove_jobs(p, whoami()) if remove_all else apply_jobs(p, wanted, whoami()))


@click.command()
@show.as_json
def check(as_json: bool) -> int:
    """Tell whether everything is in order: servers, ledger, jobs, models, workers.

    Ends with 2 when something is wrong. Nothing is changed.

    \b
    Example:
        scorebeat check
    """
    from scorebeat.ops.cli.checks import check_all  # noqa: PLC0415

    findings = check_all()
    if as_json:
        show.print_json(findings)
    else:
        for finding in findings:
            click.echo(f"{finding.verdict:<8} {finding.subject}: {finding.text}")
    return 2 if any(finding.verdict == "problem" for finding in findings) else 0
