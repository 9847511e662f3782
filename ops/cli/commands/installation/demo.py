"""The demo: 65,322 flowers from an empty folder to the last prediction, by real servers, which it stops at its end."""

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from signal import SIGTERM

import click
from sqlalchemy.exc import DBAPIError

from scorebeat.core.data_folder import LOCK_FILE
from scorebeat.core.errors import ScorebeatError
from scorebeat.core.jobs.jobs_file import read_file
from scorebeat.core.process.paths import shown
from scorebeat.core.settings import PREFIX, Settings
from scorebeat.core.text.durations import in_two_units
from scorebeat.db.reports import status
from scorebeat.db.reports.status import RunLine
from scorebeat.examples.iris import items
from scorebeat.examples.iris import setup as iris
from scorebeat.ops.cli import output, progress
from scorebeat.ops.local import worker_commands
from scorebeat.ops.local.data_folder import locked, usable
from scorebeat.ops.local.interrupts import Interrupts
from scorebeat.ops.local.log import Log
from scorebeat.ops.local.prepare import migrate
from scorebeat.ops.local.processes import Process
from scorebeat.ops.local.servers.embedded import embedded
from scorebeat.ops.local.supervisor import Supervisor
from scorebeat.ops.local.up import child_environment
from scorebeat.producer.context import Producer
from scorebeat.producer.requests.apply import apply

FOLDER = "demo"
LOG_FILE = "demo.log"
SCHEDULE = "every 2 seconds"
"""Instead of the hourly schedule of jobs.toml, which would take too long."""
MOST_SECONDS = 120.0
LAST_LINES = 15
STOP = ((SIGTERM, 10.0),)
DEMO = "demo"
"""The name that is recorded for the demo's actions."""


class DemoFailed(ScorebeatError):
    """The demo did not finish; the message has the last lines of its log."""


def demo(settings: Settings) -> int:
    """Run the demo; returns 0. Raises DemoFailed, or UsageError if the folder cannot be used."""
    began = time.monotonic()
    with running(settings) as (producer, supervisor):
        click.echo(f"table items: {iris.fill(producer):,} flowers")
        iris.add_model(producer, DEMO)
        click.echo("model iris/1: a support-vector machine, trained and added")
        file = read_file(iris.JOBS)
        ticking = [job.model_copy(update={"schedule": SCHEDULE}) for job in file.jobs]
        apply(producer, ticking, DEMO, owner=file.owner)
        click.echo(f"job iris: {ticking[0].query}; beat ticks {SCHEDULE}")
        start_beat(producer, supervisor)
        line = follow(producer, supervisor, began + MOST_SECONDS)
        if progress.exit_code(line) or not line.rows_scored:
            raise DemoFailed(progress.summary(line))

        click.echo(f"\n{progress.summary(line)}")
        click.echo(f"begun by {line.created_by}, {line.batches} batches\n")
        with producer.engine.connect() as connection:
            classes = [dict(row._mapping) for row in connection.execute(items.classes())]
            best = [dict(row._mapping) for row in connection.execute(items.top("virginica"))]
        for row in classes:
            row["mean_probability"] = f"{row['mean_probability']:.3f}"
        output.table(classes, ("label", "rows", "mean_probability"), "")
        click.echo("\nthe surest virginicas: SELECT * FROM predictions.iris ORDER BY virginica DESC LIMIT 5")
        for row in best:
            row["virginica"] = f"{row['virginica']:.6f}"
        output.table(best, ("id", "values", "virginica"), "")
        click.echo()
    ended(settings, began, "runs", "show 1", "models list")
    return 0


@contextmanager
def running(settings: Settings) -> Iterator[tuple[Producer, Supervisor]]:
    """Servers in an empty folder of the demo, and the processes of `up` but for beat and Flower.

    Raises DemoFailed, with the end of the log, for what fails in the block; UsageError if the folder cannot be used.
    """
    folder = shown(settings.data) / FOLDER
    with usable(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        if not any(folder.parent.iterdir()):  # so that `scorebeat up` still takes it for a data folder
            (folder.parent / LOCK_FILE).touch(mode=0o600)
    with locked(folder) as ours:
        for old in ("postgres", "valkey", "artifacts"):
            shutil.rmtree(ours.path / old, ignore_errors=True)

    with Interrupts() as interrupts, interrupts.raising():
        click.echo(f"starting PostgreSQL and Valkey in {folder}")
        with embedded(folder) as urls, (folder / LOG_FILE).open("w", encoding="utf-8") as log:
            data = folder.absolute()
            own = {"data": data, "artifacts": data / "artifacts", **asdict(urls)}
            producer = Producer(settings.model_copy(update=own), DEMO)
            try:
                with Supervisor(Log(log), interrupts) as supervisor, _explained(producer):
                    migrate(producer)
                    commands = {
                        "control": worker_commands.control_worker(),
                        "plan": worker_commands.plan_worker(),
                        "worker": worker_commands.celery_worker(["cpu"], worker_commands.cores(), "cpu"),
                    }
                    for name, command in commands.items():  # they start up while the model is trained
                        supervisor.start(Process(name, command, _environment(producer), stop=STOP))
                    yield producer, supervisor
                    click.echo("stopping")
            finally:
                producer.close()


def start_beat(producer: Producer, supervisor: Supervisor) -> None:
    """Start the process that sends ticks, and wakes control each second."""
    supervisor.start(Process("beat", worker_commands.celery_beat(), _environment(producer), stop=STOP))


def _environment(producer: Producer) -> dict[str, str]:
    """The environment of the demo's processes."""
    folders = {f"{PREFIX}DATA": str(producer.settings.data), f"{PREFIX}ARTIFACTS": str(producer.settings.artifacts)}
    return child_environment(producer.settings) | folders


def ended(settings: Settings, began: float, *commands: str) -> None:
    """The last lines: how long it took, and commands that show what there is."""
    click.echo(f"done in {in_two_units(time.monotonic() - began)}; everything is stopped")
    click.echo("\n".join(look_at(shown(settings.data) / FOLDER, settings, *commands)))


def follow(producer: Producer, supervisor: Supervisor, deadline: float, after: int = 0) -> RunLine:
    """Show the first run with a number above `after` until it is over."""
    with progress.display() as shown:
        while time.monotonic() < deadline:
            supervisor.tend()
            with producer.engine.connect() as connection:
                lines = status.after(connection, after)
            if lines:
                shown.show(lines[0])
                if lines[0].is_final:
                    return lines[0]
            time.sleep(0.1)
    raise DemoFailed(f"the run was not over {MOST_SECONDS:g} s after the start")


@contextmanager
def _explained(producer: Producer) -> Iterator[None]:
    """A failure shows the end of the log."""
    log = shown(producer.settings.data) / LOG_FILE
    try:
        yield
    except (ScorebeatError, DBAPIError) as error:
        tail = "\n".join(log.read_text("utf-8", "replace").splitlines()[-LAST_LINES:])
        raise DemoFailed(f"{error}\nThe end of {log}:\n{tail}") from error


def look_at(folder: Path, settings: Settings, *typed: str) -> list[str]:
    """The lines that show what to type next. URLs in the settings would override the demo's folder."""
    # by its name if the shell finds it, else by its path
    program = "scorebeat" if shutil.which("scorebeat") else str(shown(Path(sys.executable).parent / "scorebeat"))
    how = ""
    if settings.database_url is not None:
        folder = folder.absolute()
        how = f", where neither the environment nor .env sets {PREFIX}DATABASE_URL and {PREFIX}BROKER_URL"
    commands = [f"  {PREFIX}DATA={quote(str(folder))} {program} {command}" for command in typed]
    last = f"The log is in {folder / LOG_FILE}. Next: `{program} up`, and examples/iris/README.md"
    return [f"its data is in {folder}. Look at it{how}:", "", *commands, "", last]
