"""`jobs`: the jobs of the database."""

import click

from scorebeat.ops.cli.jobs_change import drop, rename


@click.group()
def jobs() -> None:
    """Drop or rename jobs.

    \b
    Example:
        scorebeat jobs drop iris
    """


jobs.add_command(drop)
jobs.add_command(rename)
