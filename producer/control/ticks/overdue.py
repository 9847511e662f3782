"""The dead man's switch: a job without complete results at `results_by` is reported, whatever the cause."""

from sqlalchemy import Connection

from scorebeat.core.events import emit
from scorebeat.core.states import FINAL_RUN
from scorebeat.db.closing import overdue
from scorebeat.db.ledger import jobs
from scorebeat.db.reports import status
from scorebeat.db.reports.pages import job_lines
from scorebeat.db.reports.pages.job_lines import JobLine
from scorebeat.producer.context import Producer
from scorebeat.producer.control.notices import unserved
from scorebeat.producer.control.ticks import missed


def note_overdue(p: Producer) -> int:
    """Record and report, once, each job whose `results_by` passed without complete results; returns how many."""
    noted = []
    with p.engine.begin() as connection:
        if not any(row.job.results_by for row in jobs.listing(connection)):
            return 0
        for line in job_lines.listing(connection):
            if line.job.results_by is None or line.needed_by is None or not line.is_overdue:
                continue
            if not overdue.take(connection, line.name, line.needed_by):
                continue
            reason = f"no complete results by {line.needed_by.isoformat(' ', 'minutes')}: {_cause(connection, line)}"
            run_id = overdue.newest_run(connection, line.name)
            if run_id is None:
                run_id = missed.fail_overdue(connection, line.job, reason)
            overdue.note(connection, line.name, line.needed_by, reason, run_id)
            noted.append((line.name, reason))
    for job, reason in noted:
        emit("results.overdue", job=job, reason=reason)
    return len(noted)


def _cause(connection: Connection, line: JobLine) -> str:
    """The cause, as far as it is known."""
    if line.paused_at is not None:
        return f"the job is paused by {line.paused_by}: {line.paused_reason} (`scorebeat resume {line.name}`)"
    if line.open_run is not None:
        why = unserved.why_open(connection, status.get(connection, line.open_run))
        return f"run {line.open_run} is still open: {why}"
    if line.held_note is not None:
        return line.held_note
    if line.last_state in FINAL_RUN:
        return (
            f"its newest run, {line.last_run}, {line.last_state}{f': {line.last_reason}' if line.last_reason else ''}"
        )
    return "it never ran"
