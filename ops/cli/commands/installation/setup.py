"""`migrate`, `apply`, `check`: prepare a database, and report what is wrong with it."""

from pathlib import Path

import click

from scorebeat.core.errors import UsageError
from scorebeat.core.jobs.jobs_file import read_files
from scorebeat.core.process.paths import shown
from scorebeat.ops.cli import output
from scorebeat.ops.cli.context import database, database_and_broker, found_settings, unmigrated
from scorebeat.producer.context import whoami
from scorebeat.producer.requests import apply as applying
from scorebeat.producer.requests.apply import ApplyOptions
from scorebeat.producer.requests.enqueue import Request, enqueue


@click.command()
@click.option("--run-role", metavar="NAME", help="A role of PostgreSQL that gets what runs need, and no more.")
def migrate(run_role: str | None) -> None:
    """Bring the database to this version of Scorebeat.

    Makes the schemas `scorebeat`, `predictions` and `scorebeat_work`; tables of yours are not touched. The role that
    runs it owns them, and is needed again only to migrate, apply, publish and prune. Other commands and workers may go
    on meanwhile (docs/how-to/upgrade.md).

    \b
    Example:
        scorebeat migrate
        scorebeat migrate --run-role scorebeat_run
    """
    from scorebeat.ops.local.prepare import migrate as bring_up  # noqa: PLC0415 -- the migrations' library loads slowly

    with unmigrated() as producer:
        done = bring_up(producer, run_role)
    if done.is_newer:
        click.echo(f"the ledger is of a newer version (revision {done.now}) and serves this one; nothing was changed")
        return
    click.echo("the ledger was migrated" if done.changed else "the ledger is up to date")
    if run_role is not None:
        click.echo(f"the role {run_role} may do what runs need")


@click.command()
@click.option(
    "--file", type=click.Path(path_type=Path), help="The jobs file, or a folder of them.  [default: jobs.toml]"
)
@click.option("--dry-run", is_flag=True, help="Show the difference and change nothing.")
@click.option("--prune", is_flag=True, help="Remove jobs of the file that it does not name any more.")
@click.option("--adopt", is_flag=True, help="Take over jobs that another file owns.")
@click.option("--force", is_flag=True, help="Apply a model or a pin by which readers lose.")
@click.option("--rescore", is_flag=True, help="Score every row anew in jobs whose query changed.")
@click.option("--remove-all", is_flag=True, help="The file holds no job, and that is meant: remove every job of it.")
def apply(file: Path | None, dry_run: bool, rescore: bool, remove_all: bool, **more: bool) -> int:
    """Add and change jobs as jobs.toml says.

    Every job's query and model are checked first; if one cannot be used, nothing is changed. Jobs of other files stay
    as they are, and a job that left the file goes on until --prune removes it; its runs and predictions stay. Another
    model or pin that scored too little is refused, as `scorebeat publish` refuses it.

    \b
    Example:
        scorebeat apply --file jobs.toml --dry-run
    """
    from scorebeat.ops.local.prepare import print_applied, print_difference  # noqa: PLC0415

    file = file or shown(found_settings().jobs)
    files = read_files(file)
    options = ApplyOptions(**more)
    with database_and_broker() if rescore else database() as producer:
        if remove_all:
            names = ", ".join(job.name for file in files for job in file.jobs)
            if names or len(files) != 1:
                held = f"{files[0].path} holds {names}" if names else f"{files[0].path.parent} is a folder"
                raise UsageError(f"--remove-all is for a jobs file without jobs, and {held}. Nothing was removed")
            if dry_run:
                raise UsageError("--remove-all and --dry-run do not go together. Nothing was removed")
            print_applied(applying.remove_all(producer, whoami(), files[0].owner))
            return 0
        if dry_run:
            print_difference(applying.difference(producer, files, options))
            return 0

        done = applying.apply_files(producer, files, whoami(), options)
        print_applied(done)
        code = 0
        for job in done.of_old_query if rescore else ():
            try:
                made = enqueue(producer, Request(job, whoami(), anew=True))
                click.echo(f"run {made.run_id} of job {job} is enqueued, and scores every row anew")
            except UsageError as error:  # the job is applied nevertheless
                code = 1
                output.note(f"job {job} is applied, and its rows were not enqueued: {error}")
        return code


@click.command()
@click.argument("job", required=False)
@output.as_json
def check(job: str | None, as_json: bool) -> int:
    """Check whether everything is in order: servers, ledger, jobs, models, workers.

    With a JOB only that one, and how its runs find their rows. Ends with 2 when something is wrong. Nothing is changed.

    \b
    Example:
        scorebeat check
        scorebeat check iris
    """
    from scorebeat.ops.cli.commands.installation.checks import check_all, check_job  # noqa: PLC0415
    from scorebeat.producer.requests.preview import preview  # noqa: PLC0415

    found = None
    if job is None:
        findings = check_all()
    else:
        with database() as producer:
            findings = [check_job(producer, job)]
            found = preview(producer, job) if findings[0].verdict != "problem" else None
    if as_json:
        output.print_json(findings)
    else:
        for finding in findings:
            click.echo(f"{finding.verdict:<8} {finding.subject}: {finding.text}")
        if found is not None:
            output.explained(found.rows_from, found.cost, found.advice)
            for recommended in found.recommended:
                click.echo(f"recommended: {recommended}; `scorebeat cost {found.job}` shows the measurements")
    return 2 if any(finding.verdict == "problem" for finding in findings) else 0
