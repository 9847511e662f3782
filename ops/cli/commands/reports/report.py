"""`report`: a job's page of the Runs tab as one HTML file, for mail."""

import sys
from pathlib import Path

import click

from scorebeat.core.errors import UsageError
from scorebeat.ops.cli.context import database

STANDARD_OUTPUT = "-"


@click.command()
@click.argument("job")
@click.option(
    "--html",
    "path",
    metavar="FILE",
    required=True,
    help="The file to write, which replaces an older one; `-` for standard output.",
)
def report(job: str, path: str) -> None:
    """Write a report of JOB: is it right, its runs, predictions, drift, quality and cost, as drawings and tables.

    The file needs nothing else: no script, no server, no network.

    \b
    Example:
        scorebeat report iris --html iris.html
    """
    # loads Arrow and Flower's template engine
    from scorebeat.db.reports.pages import run_pages  # noqa: PLC0415
    from scorebeat.monitor.job_report import job_report  # noqa: PLC0415
    from scorebeat.monitor.report_file import as_html  # noqa: PLC0415

    with database() as producer, run_pages.reading(producer.engine) as connection:
        page = as_html(job_report(connection, job))
    if path == STANDARD_OUTPUT:
        sys.stdout.write(page)
        return
    try:
        Path(path).write_text(page, "utf-8")
    except OSError as error:
        what = f"{path} cannot be written: {error.strerror}. Name a file that can be written after --html"
        raise UsageError(what) from None
    click.echo(f"{path}: {len(page) // 1024} KiB")
