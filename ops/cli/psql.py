"""`psql`: PostgreSQL's own client on the database that the other commands use."""

import os
import subprocess

import click
from sqlalchemy import make_url

from ops.cli.context import unmigrated
from ops.stack.postgres import binaries


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(arguments: tuple[str, ...]) -> int:
    """Open psql on the database; ARGUMENTS are psql's own.

    \b
    Example:
        scorebeat psql -c "SELECT * FROM predictions.iris LIMIT 5"
    """
    with unmigrated() as p:
        url = make_url(p.url).set(drivername="postgresql")
        # the password goes by the environment: anybody can read a process' arguments
        environment = os.environ | ({"PGPASSWORD": url.password} if url.password else {})
        address = url._replace(password=None).render_as_string(hide_password=False)
        return subprocess.run([binaries() / "psql", address, *arguments], env=environment, check=False).returncode
