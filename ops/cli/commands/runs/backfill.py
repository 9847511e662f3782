"""`backfill`: a run for each due time in a span of time, one after another."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import click

from scorebeat.core.errors import UsageError
from scorebeat.core.states import RunState
from scorebeat.db.connect import database_clock
from scorebeat.db.ledger import jobs
from scorebeat.db.reports.pages.job_lines import is_complete
from scorebeat.ops.cli import output, progress
from scorebeat.ops.cli.context import database, database_and_broker
from scorebeat.producer.context import Producer, whoami
from scorebeat.producer.control.notices import unserved
from scorebeat.producer.requests import backfill as by_due_time
from scorebeat.producer.requests.backfill import Backfill, DueTime
from scorebeat.producer.requests.run_request import Labels, time_of_job, version_number

COLUMNS = ("due_at", "run", "state", "plan")


@click.command()
@click.argument("job")
@click.option("--from", "first", metavar="TIME", required=True, help="The first due time, or a time before it.")
@click.option("--to", "before", metavar="TIME", help="Due times before this time.  [default: now]")
@click.option("--model", metavar="M/V", help="Score this version, such as iris/4 or 4.")
@click.option("--dry-run", is_flag=True, help="Show the due times and what would be done; change nothing.")
@output.as_json
def backfill(job: str, first: str, before: str | None, model: str | None, **how: bool) -> int:
    """Make one run for each due time of JOB in a span of time, in order, one after another.

    A due time with a complete run is left alone, so the same command goes on where it stopped. A time without an
    offset is in the time zone of the job's schedule. Ends with 1 when a run did not succeed; the first that leaves
    rows out ends it.

    \b
    Example:
        scorebeat backfill iris --from 2026-07-01 --to 2026-07-08 --dry-run
        scorebeat backfill iris --from 2026-07-01 --to 2026-07-08
    """
    if how["as_json"] and not how["dry_run"]:
        raise click.UsageError("--json goes with --dry-run")
    with database() if how["dry_run"] else database_and_broker() as producer:
        with producer.engine.connect() as connection:
            now = database_clock.now(connection)
            version = None if model is None else version_number(model, jobs.get(connection, job).job, Labels("--"))
        start = time_of_job(producer, job, "--from", first)
        end = now if before is None else time_of_job(producer, job, "--to", before)
        if start >= end:
            until = "now" if before is None else f"--to {before}"
            raise UsageError(f"--from {first} is not before {until}. Nothing was enqueued")
        wanted = Backfill(job, version, start, end)
        found = by_due_time.with_runs(producer, wanted)
        if how["dry_run"]:
            _show(found, as_json=how["as_json"])
            return 0
        return _Filling(producer, wanted, found).run()


def _show(found: Sequence[DueTime], *, as_json: bool) -> None:
    rows: list[dict[str, Any]] = []
    for due in found:
        if due.is_done:
            plan = "done"
        elif due.run is not None and due.run.is_open:
            plan = "waits for it"
        else:
            plan = "a new run"
        run, state = (due.run.id, due.run.state) if due.run is not None else (None, None)
        rows.append({"due_at": due.due_at, "run": run, "state": state, "plan": plan})
    if as_json:
        output.print_json(rows)
        return
    output.table(rows, COLUMNS, "no due times")
    left = sum(not due.is_done for due in found)
    click.echo(f"{left:,} of {len(found):,} due times would get a run; nothing was changed")


class _Filling:
    """A backfill in progress: the run that it waits for, and the due times that are left."""

    def __init__(self, producer: Producer, wanted: Backfill, found: Sequence[DueTime]) -> None:
        self.producer, self.wanted = producer, wanted
        self.left = list(found)
        self.run_id: int | None = None
        """The run that the command waits for."""
        self.code = 0

    def run(self) -> int:
        with self.producer.engine.connect() as connection:
            began = database_clock.now(connection)
            for line in unserved.of_queues(connection, {jobs.get(connection, self.wanted.job).job.queue}):
                output.note(line)
        try:
            while self.left and self._fill(self.left[0]):
                del self.left[0]
        except KeyboardInterrupt:
            if self.run_id is not None:
                watch, cancel = (f"`scorebeat {command} {self.run_id}`" for command in ("watch", "cancel"))
                output.note(f"run {self.run_id} goes on; {watch} shows it, {cancel} stops it")
            first = _text(self.left[0].due_at)
            output.note(f"{len(self.left):,} due times are left, from {first} on; the same command goes on there")
            raise
        # the schedule skipped these while a run of this backfill was open, and the backfill did not cover them
        done = {due.due_at for due in by_due_time.with_runs(self.producer, self.wanted) if due.is_done}
        for due_at in by_due_time.skipped(self.producer, self.wanted.job, began):
            if due_at not in done:
                end = _text(due_at + timedelta(seconds=1))
                output.note(
                    f"the due time {_text(due_at)} was skipped, because a run of this backfill was open; "
                    f"`scorebeat backfill {self.wanted.job} --from {_text(due_at)} --to {end}` makes it up"
                )
        return self.code

    def _fill(self, due_time: DueTime) -> bool:
        """Score one due time; False if it left rows out, so that no later one is begun."""
        due = _text(due_time.due_at)
        if due_time.is_done and due_time.run is not None:
            empty = f", and found no rows; `scorebeat enqueue {self.wanted.job} --due-at {due}` looks again"
            click.echo(
                f"{due}: run {due_time.run.id} {due_time.run.state} before{'' if due_time.run.has_rows else empty}"
            )
            return True
        while True:
            self.run_id, is_its_own = by_due_time.begin(self.producer, self.wanted, due_time.due_at, whoami())
            click.echo(f"{due}: run {self.run_id}" if is_its_own else f"{due}: waits for run {self.run_id} to end")
            line = progress.follow(self.producer, self.run_id)
            if is_its_own:
                break
        self.run_id = None
        click.echo(progress.summary(line))
        self.code = max(self.code, progress.exit_code(line))
        if is_complete(line.state, line.reason):
            return True
        is_held = line.state is RunState.HELD
        output.note(
            f"run {line.id} {'is held' if is_held else 'left rows out'}, so no later due time was begun: "
            f"{len(self.left) - 1:,} are left. `scorebeat {'show' if is_held else 'failures'} {line.id}` says why; "
            f"the same command begins with {due} again"
        )
        return False


def _text(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
