"""`psql`: PostgreSQL's own client on the database that the other commands use."""

import os
import subprocess
from shutil import which

import click
from sqlalchemy import make_url

from scorebeat.db.connect.engine import address
from scorebeat.ops.cli.context import unmigrated
from scorebeat.ops.local.servers.postgres import binaries


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(arguments: tuple[str, ...]) -> int:
    """Open psql on the database; ARGUMENTS are psql's own.

    \b
    Example:
        scorebeat psql -c "SELECT * FROM predictions.iris LIMIT 5"
    """
    with unmigrated() as producer:
        url = make_url(producer.url)
        # the password goes into the environment: anybody can read a process' arguments
        environment = os.environ | ({"PGPASSWORD": url.password} if url.password else {})
        needs_tls = url.query.get("sslmode") in ("require", "verify-ca", "verify-full")
        # the embedded psql lacks TLS; the one on the PATH may have it
        program = (which("psql") if needs_tls else None) or str(binaries() / "psql")
        command = [program, address(url._replace(password=None)), *arguments]
        return subprocess.run(command, env=environment, check=False).returncode
