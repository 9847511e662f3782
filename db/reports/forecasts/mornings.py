"""The question of the morning: for each job, is what readers see right, and if not, what is to be looked at."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from scorebeat.core.states import RunState
from scorebeat.db.ledger.evidence import canaries, profiles
from scorebeat.db.ledger.evidence.profiles import KEEPS_PROFILES
from scorebeat.db.reports.pages import job_lines
from scorebeat.db.reports.pages.job_lines import JobLine

RUNS = 20
"""The newest so many runs are shown."""


@dataclass(frozen=True)
class Morning:
    """One job, and what its newest runs show."""

    line: JobLine
    runs: tuple[tuple[int, RunState], ...]
    """Its newest runs, the oldest first, with their states."""
    drifted: int | None
    """Columns that are too far from the reference, in the newest run that was compared; None if none was."""
    compared_run: int | None
    """That run."""
    canary_failure: str | None
    """What its newest canary found, if no run has scored a row since."""
    not_compared: str | None
    """The newest run that was to be compared, and why it was not, if readers see it; None if it was."""

    @property
    def problems(self) -> list[str]:
        """Why readers may not have what they need now, the worst first; empty if they do."""
        line = self.line
        found = []
        if line.is_overdue and line.needed_by is not None:
            found.append(f"complete results were needed by {line.needed_by.isoformat(' ', 'minutes')}")
        if line.held_run is not None:
            found.append(f"run {line.held_run} waits for a decision")
        if line.last_state in (RunState.FAILED, RunState.PARTIAL) and line.last_reason is not None:
            found.append(f"run {line.last_run} {line.last_state}: {line.last_reason}")
        if self.canary_failure is not None:
            found.append(f"the last canary: {self.canary_failure}")
        return found

    @property
    def notes(self) -> list[str]:
        """What a person may want to look at, although readers have complete results."""
        found = []
        if self.drifted:
            found.append(f"{self.drifted} column{'s' * (self.drifted != 1)} drifted in run {self.compared_run}")
        if self.not_compared is not None:
            found.append(self.not_compared)
        if self.line.last_state is RunState.PARTIAL and self.line.last_reason is None:
            found.append(f"run {self.line.last_run} left rows in quarantine")
        if self.line.paused_at is not None:
            found.append(f"paused by {self.line.paused_by}: {self.line.paused_reason or 'by hand'}")
        return found

    @property
    def light(self) -> str:
        """`bad`, `look`, `good`, or `new` for a job that has no complete results yet."""
        if self.problems:
            return "bad"
        if self.line.last_success_at is None:
            return "new"
        return "look" if self.notes else "good"


def listing(connection: Connection) -> list[Morning]:
    """All jobs of jobs.toml, those with a problem first, then by name."""
    found = {
        row.job: row
        for row in connection.execute(
            text(
                "SELECT j.name AS job, r.ids, r.states, d.run_id AS compared_run, d.drifted, c.failure,"
                " u.not_compared"
                " FROM scorebeat.jobs j"
                " LEFT JOIN LATERAL (SELECT array_agg(n.id ORDER BY n.id) AS ids,"
                " array_agg(n.state ORDER BY n.id) AS states FROM (SELECT id, state FROM scorebeat.runs"
                " WHERE job = j.name ORDER BY id DESC LIMIT :runs) n) r ON true"
                " LEFT JOIN LATERAL (SELECT p.run_id, (SELECT count(*) FROM jsonb_array_elements(p.findings) f"
                " WHERE jsonb_array_length(f -> 'reasons') > 0) AS drifted FROM scorebeat.run_profiles p"
                " WHERE p.job = j.name AND p.findings IS NOT NULL ORDER BY p.run_id DESC LIMIT 1) d"
                f" ON {KEEPS_PROFILES}"
                " LEFT JOIN LATERAL (SELECT format('run %s was not compared: %s', p.id, coalesce(p.failure, p.why_not))"
                f" AS not_compared FROM {profiles.NEWEST} p CROSS JOIN LATERAL (SELECT p.id, p.state, p.spec) r"
                f" WHERE {profiles.IS_NOT_COMPARED} AND p.state IN ('succeeded', 'partial')) u ON {KEEPS_PROFILES}"
                " LEFT JOIN LATERAL (SELECT k.failure, k.finished_at FROM scorebeat.canaries k WHERE k.job = j.name"
                " AND k.finished_at IS NOT NULL ORDER BY k.id DESC LIMIT 1) c ON NOT EXISTS (SELECT FROM scorebeat.runs"
                f" r WHERE r.job = j.name AND r.planned_at > c.finished_at AND {canaries.HAS_SCORED})"
                " WHERE j.removed_at IS NULL"
            ),
            {"runs": RUNS},
        )
    }
    mornings = []
    for line in job_lines.listing(connection):
        row = found[line.name]
        runs = tuple((run, RunState(state)) for run, state in zip(row.ids or (), row.states or (), strict=True))
        mornings.append(Morning(line, runs, row.drifted, row.compared_run, row.failure, row.not_compared))
    return sorted(mornings, key=lambda one: (("bad", "look", "new", "good").index(one.light), one.line.name))
