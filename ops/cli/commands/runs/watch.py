"""`watch`: the progress of runs."""

import time

import click

from scorebeat.db.reports import status
from scorebeat.ops.cli import output, progress
from scorebeat.ops.cli.context import database
from scorebeat.producer.context import Producer


@click.command()
@click.argument("run", type=int, required=False)
def watch(run: int | None) -> int:
    """Watch a RUN until it is over, or all open runs until Ctrl-C.

    Shows rows done and failed, rows a second over the last minute, the forecast of its end, and the deadline.
    Ends with 1 when the run did not succeed.

    \b
    Example:
        scorebeat watch 3
    """
    with database() as producer:
        if run is None:
            _watch_all(producer)
            return 0
        line = progress.follow(producer, run)
        click.echo(progress.summary(line))
        return progress.exit_code(line)


def _watch_all(producer: Producer) -> None:
    """Watch the runs that are open now and new ones; the end of each is shown once."""
    with producer.engine.connect() as connection:
        newest = status.newest_id(connection)
        seen = {line.id for line in status.after(connection, newest)}
    if not seen:
        output.note("no run is open; waiting for one (Ctrl-C ends this)")
    ended: set[int] = set()
    with progress.display() as shown:
        while True:
            with producer.engine.connect() as connection:
                lines = status.after(connection, newest)
                lines += [status.get(connection, i) for i in seen - ended - {line.id for line in lines}]
                present = [(line, progress.now(connection, line)) for line in lines if line.id not in ended]
            for line, now in present:
                seen.add(line.id)
                shown.show(line, now)
                if line.is_final:
                    ended.add(line.id)
            time.sleep(progress.LOOK_EVERY)
