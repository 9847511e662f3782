"""The demo of drift: three nights of customers; the third is held, because another kind of customer came."""

import time

import click

from scorebeat.core.jobs.job import Job
from scorebeat.core.jobs.jobs_file import read_file
from scorebeat.core.settings import Settings
from scorebeat.core.states import RunState
from scorebeat.db.ledger.evidence import canaries, profiles
from scorebeat.db.reports import published
from scorebeat.db.reports.status import RunLine
from scorebeat.examples.churn import setup as churn
from scorebeat.ops.cli import output, progress
from scorebeat.ops.cli.commands.installation.demo import DEMO, DemoFailed, ended, follow, running, start_beat
from scorebeat.ops.local.supervisor import Supervisor
from scorebeat.producer.context import Producer
from scorebeat.producer.requests.apply import apply
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.producer.requests.release import release

MOST_SECONDS = 180.0
WHY = "the campaign for students is meant"


def demo(settings: Settings) -> int:
    """Run the demo; returns 0. Raises DemoFailed, or UsageError if the folder cannot be used."""
    began = time.monotonic()
    with running(settings) as (producer, supervisor):
        deadline = began + MOST_SECONDS
        click.echo(f"table customers: {churn.load(producer, 1):,} rows, loaded anew each night")
        churn.add_model(producer, DEMO)
        click.echo("model churn/1, with its training data as the reference")
        file = read_file(churn.JOBS)
        apply(producer, file.jobs, DEMO, owner=file.owner)
        start_beat(producer, supervisor)
        _canary(producer, supervisor, deadline)
        for night in (1, 2):
            click.echo(f"\nnight {night}: customers as in training")
            churn.load(producer, night)
            _show(producer, _run(producer, supervisor, file.jobs[0], deadline, RunState.SUCCEEDED))
        click.echo("\nnight 3: a campaign brought students")
        churn.load(producer, 3, campaign=True)
        held = _run(producer, supervisor, file.jobs[0], deadline, RunState.HELD)
        _show(producer, held)
        click.echo(f"readers still see night 2: {_readers_see(producer)}")
        click.echo(f'\nscorebeat release {held.id} --why "{WHY}"')
        release(producer, held.id, DEMO, WHY)
        click.echo(f"readers see night 3: {_readers_see(producer)}")
    ended(settings, began, "runs", "drift churn", "up")
    return 0


def _canary(producer: Producer, supervisor: Supervisor, deadline: float) -> None:
    """Wait for the first canary: nothing ran yet, so it is due at once."""
    while time.monotonic() < deadline:
        supervisor.tend()
        with producer.engine.connect() as connection:
            found = canaries.newest(connection).get(churn.MODEL)
        if found is not None:
            if found.failure is not None:
                raise DemoFailed(f"the canary found: {found.failure}")
            click.echo(f"canary: {found.rows} rows were scored by {found.worker} and not stored; all is well")
            return
        time.sleep(0.2)
    raise DemoFailed(f"the canary was not over {MOST_SECONDS:g} s after the start")


def _run(producer: Producer, supervisor: Supervisor, job: Job, deadline: float, expected: RunState) -> RunLine:
    run_id = enqueue(producer, Request(job.name, DEMO)).run_id
    line = follow(producer, supervisor, deadline, after=run_id - 1)
    if line.state is not expected:
        raise DemoFailed(f"expected a run that is {expected}: {progress.summary(line)}")
    return line


def _show(producer: Producer, line: RunLine) -> None:
    """The end of the run, and how far its inputs and outputs are from the training data."""
    click.echo(f"run {line.id} is {line.state}, {line.rows_scored:,} rows scored")
    with producer.engine.connect() as connection:
        compared = profiles.compared(connection, line.id)
    if compared is None or compared.findings is None:
        raise DemoFailed(f"run {line.id} was not compared with the training data")
    shown = [
        {
            "name": found.name,
            "psi": None if found.psi is None else f"{found.psi:.2f}",
            "distance": None if found.distance is None else f"{found.distance:.2f}",
            "too far": "; ".join(found.reasons),
        }
        for found in compared.findings
    ]
    output.table(shown, ("name", "psi", "distance", "too far"), "")


def _readers_see(producer: Producer) -> str:
    with producer.engine.connect() as connection:
        share = published.share_of_label(connection, "churn", "leaves")
    return f"{share:.1%} of the customers leave"
