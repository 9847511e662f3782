"""`health`: whether a process of this machine shows signs of life, for containers and supervisors."""

import socket

import click
from sqlalchemy import Connection

from scorebeat.core.data_folder import joined
from scorebeat.core.errors import ScorebeatError
from scorebeat.core.queues import RESERVED_QUEUES
from scorebeat.core.settings import load_settings
from scorebeat.db.connect import read_only
from scorebeat.db.connect.engine import make_engine, reachable
from scorebeat.db.processes import health as signs
from scorebeat.db.processes.signs_of_life import SEEN_WITHIN, in_time


@click.command()
@click.argument("process", type=click.Choice(["worker", "control", "beat"]))
def health(process: str) -> None:
    """Check whether a worker, the control worker or beat of this machine is alive.

    Ends with 0 when it gave a sign of life to the database within 20 seconds, else with 1. Reports if the
    database takes no writes: then no process can give a sign. Ends with 2 when the database gives no answer
    within 5 seconds.

    \b
    Example:
        scorebeat health worker
    """
    url = joined(load_settings()).database()
    engine = make_engine(url, "scorebeat health", pool_size=1)

    def look() -> tuple[str, str | None]:
        with reachable(url), engine.connect() as connection:
            return _missing(connection, process), read_only.why(connection)

    try:
        missing, takes_no_writes = in_time(url, look)
    finally:
        engine.dispose()
    if missing and takes_no_writes:
        raise ScorebeatError(f"{missing} could give no sign of life: {takes_no_writes}")
    if missing:
        seconds = int(SEEN_WITHIN.total_seconds())
        raise ScorebeatError(f"{missing} gave no sign of life within {seconds} s: look into its log, or start it again")
    click.echo(f"{process} is alive")
    if takes_no_writes:
        click.echo(f"note: {takes_no_writes}", err=True)


def _missing(connection: Connection, process: str) -> str:
    """The processes without a sign of life; empty if all have one."""
    if process == "beat":
        return "" if signs.beat_reads(connection) else f"beat on {socket.gethostname()}"
    host = socket.gethostname()
    served = signs.queues_served_from(connection, host)
    if process == "control":
        silent = sorted(RESERVED_QUEUES - served)
        return f"the worker of queue {' and of '.join(silent)} on {host}" if silent else ""
    return "" if served - RESERVED_QUEUES else f"a worker that scores on {host}"
