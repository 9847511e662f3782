"""`jobs`: when each job is due, how its last run ended, and why it was last skipped."""

from datetime import datetime

import click

from scorebeat.core.text.durations import from_now
from scorebeat.db.connect import database_clock
from scorebeat.db.reports.pages import job_lines
from scorebeat.ops.cli import output
from scorebeat.ops.cli.commands.jobs.jobs_change import drop, rename
from scorebeat.ops.cli.context import database
from scorebeat.producer.control.notices import unserved

COLUMNS = ("job", "schedule", "next_due", "last_success", "last_end", "last_skip", "paused", "queue", "model")

PROMISED = ("name", "schedule", "timezone", "queue", "model", "model_version", "next_due_at", "needed_by", "is_overdue",
            "last_success_at", "last_run", "last_state", "last_end_at", "last_reason", "held_run", "last_skip_at",
            "last_skip_reason", "paused_at", "paused_by", "paused_reason")  # fmt: skip
"""The names of a job's values in JSON, a promise to programs."""


@click.group(invoke_without_command=True)
@output.as_json
@click.pass_context
def jobs(ctx: click.Context, as_json: bool) -> None:
    """List the jobs: when each is due next, its last success and end, why it was skipped last.

    \b
    Example:
        scorebeat jobs
    """
    if ctx.invoked_subcommand is not None:
        return
    with database() as producer, producer.engine.connect() as connection:
        lines, now = job_lines.listing(connection), database_clock.now(connection)
        notes = unserved.of_jobs(connection, lines)
    if as_json:
        output.print_json([{name: getattr(line, name) for name in PROMISED} for line in lines])
        return
    rows = []
    for line in lines:
        job, zone = line.job, f" {line.job.timezone}" if line.job.timezone != "UTC" else ""
        ended = f"run {line.last_run} {line.last_state}, {_at(line.last_end_at, now)}" if line.last_end_at else None
        skipped = f"{output.cell(line.last_skip_at)}: {line.last_skip_reason}" if line.last_skip_at else None
        version = f"/{line.model_version}" if line.model_version else ", not published"
        rows.append(
            {
                "job": job.name,
                "schedule": f"{job.schedule}{zone}" if job.schedule else "by hand",
                "next_due": _at(line.next_due_at, now),
                "last_success": _at(line.last_success_at, now),
                "last_end": ended,
                "last_skip": skipped,
                "paused": f"by {line.paused_by}: {line.paused_reason}" if line.paused_at else None,
                "queue": job.queue,
                "model": f"{line.model}{version}",
            }
        )
    output.table(rows, COLUMNS, "there are no jobs yet; write jobs.toml and run `scorebeat apply`")
    for line in lines:
        if line.is_overdue and line.needed_by is not None:
            output.note(
                f"job {line.job.name}: no success yet, and results were needed by {output.cell(line.needed_by)}"
            )
    for note in notes:
        output.note(note)


def _at(at: datetime | None, now: datetime) -> str | None:
    """`2026-11-22 02:00:00, in 3 h`, or `..., 5 min ago`."""
    if at is None:
        return None
    return f"{output.cell(at)}, {from_now(at - now)}"


jobs.add_command(drop)
jobs.add_command(rename)
