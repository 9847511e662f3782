"""Runs that will be late: reported once, while there is time to do something about it."""

from scorebeat.core.events import emit
from scorebeat.db.closing import late_expected
from scorebeat.db.closing.late_expected import AVERTED
from scorebeat.db.reports import status
from scorebeat.db.reports.forecasts import forecasts
from scorebeat.db.reports.pages import job_lines
from scorebeat.db.schema.monitoring_tables import LATE_EXPECTED
from scorebeat.producer.context import Producer


def note_late_expected(p: Producer) -> int:
    """Report, once a run, that its likely end passes the time its results are promised for; returns how many.

    Where the forecast rests on the first batches alone it waits for more of them. When even the latest end of such a
    run is in time again, that is reported once, too.
    """
    late, averted = [], []
    with p.engine.begin() as connection:
        watched = late_expected.watched(connection)
        if not watched:
            return 0
        jobs = {line.name: line for line in job_lines.listing(connection)}
        known = forecasts.evidence(connection)
        for run_id in watched:
            if run_id not in known.runs:
                continue
            line = status.get(connection, run_id)
            needed_at = forecasts.needed_at(jobs.get(line.job), line.deadline_at, known.runs[run_id].rank)
            found = forecasts.of_run(known, run_id)
            if needed_at is None or needed_at <= known.now or found.likely is None or not found.is_firm:
                continue
            if found.passes(needed_at):
                if late_expected.take(connection, run_id, LATE_EXPECTED):
                    reason = found.help(known, needed_at)
                    late_expected.note(connection, run_id, needed_at, found.likely, reason)
                    late.append((line, needed_at, found.likely, reason))
            elif (
                found.latest is not None
                and found.latest <= needed_at
                and late_expected.is_recorded(connection, run_id)
                and late_expected.take(connection, run_id, AVERTED)
            ):
                late_expected.note_averted(connection, run_id, found.likely)
                averted.append((line, needed_at, found.likely))
    for line, needed_at, likely, reason in late:
        emit("late.expected", run=line.id, job=line.job, needed_at=needed_at, expected_end=likely, reason=reason)
    for line, needed_at, likely in averted:
        emit("late.averted", run=line.id, job=line.job, needed_at=needed_at, expected_end=likely)
    return len(late)
