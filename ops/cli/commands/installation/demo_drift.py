"""The demo of drift: three nights of customers; the third is held, because another kind of customer came."""

import time

import click
from sqlalchemy import text

from scorebeat.core.jobs.job import Job
from scorebeat.core.jobs.jobs_file import read_file
from scorebeat.core.settings import Settings
from scorebeat.core.states import RunState
from scorebeat.db.ledger.evidence import canaries, profiles
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
    with running(settings) as (p, supervisor):
        deadline = began + MOST_SECONDS
        click.echo(f"table customers: {churn.load(p, 1):,} rows, loaded anew each night")
        churn.add_model(p, DEMO)
        click.echo("model churn/1, with its training data as the reference")
        file = read_file(churn.JOBS)
        apply(p, file.jobs, DEMO, owner=file.owner)
        start_beat(p, supervisor)
        _canary(p, supervisor, deadline)
        for night in (1, 2):
            click.echo(f"\nnight {night}: customers as in training")
            churn.load(p, night)
            _show(p, _run(p, supervisor, file.jobs[0], deadline, RunState.SUCCEEDED))
        click.echo("\nnight 3: a campaign brought students")
        churn.load(p, 3, campaign=True)
        held = _run(p, supervisor, file.jobs[0], deadline, RunState.HELD)
        _show(p, held)
        click.echo(f"readers still see night 2: {_readers_see(p)}")
        click.echo(f'\nscorebeat release {held.id} --why "{WHY}"')
        release(p, held.id, DEMO, WHY)
        click.echo(f"readers see night 3: {_readers_see(p)}")
    ended(settings, began, "runs", "drift churn", "up")
    return 0


def _canary(p: Producer, supervisor: Supervisor, deadline: float) -> None:
    """Wait for the first canary: nothing ran yet, so it is due at once."""
    while time.monotonic() < deadline:
        supervisor.tend()
        with p.engine.connect() as connection:
            found = canaries.newest(connection).get(churn.MODEL)
        if found is not None:
            if found.failure is not None:
                raise DemoFailed(f"the canary found: {found.failure}")
            click.echo(f"canary: {found.rows} rows were scored by {found.worker} and not stored; all is well")
            return
        time.sleep(0.2)
    raise DemoFailed(f"the canary was not over {MOST_SECONDS:g} s after the start")


def _run(p: Producer, supervisor: Supervisor, job: Job, deadline: float, expected: RunState) -> RunLine:
    run_id = enqueue(p, Request(job.name, DEMO)).run_id
    line = follow(p, supervisor, deadline, after=run_id - 1)
    if line.state is not expected:
        raise DemoFailed(f"expected a run that is {expected}: {progress.summary(line)}")
    return line


def _show(p: Producer, line: RunLine) -> None:
    """The end of the run, and how far its inputs and outputs are from the training data."""
    click.echo(f"run {line.id} is {line.state}, {line.rows_scored:,} rows scored")
    with p.engine.connect() as connection:
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


def _readers_see(p: Producer) -> str:
    with p.engine.connect() as connection:
        share = connection.execute(text("SELECT avg((label = 'leaves')::int) FROM predictions.churn")).scalar_one()
    return f"{share:.1%} of the customers leave"
