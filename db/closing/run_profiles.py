"""The comparison of a run that ends with its reference; the first whole run becomes the reference."""

from dataclasses import dataclass

from sqlalchemy import Connection

from scorebeat.core.events import emit
from scorebeat.core.jobs.drift_limits import DriftLimits
from scorebeat.db.closing.run_ends import Tally
from scorebeat.db.ledger import profiles
from scorebeat.db.ledger.runs import EVERYTHING, Run
from scorebeat.drift.finding import Finding
from scorebeat.drift.profile import Profile


@dataclass(frozen=True)
class Judged:
    """The profile of a run, and what its comparison found."""

    profile: Profile | None = None

    drifted: tuple[Finding, ...] = ()
    """What is too far from the reference."""
    new_reference: bool = False
    """Whether later runs are compared with this one."""

    def log(self, run: int, job: str) -> None:
        """To be called when the transaction is committed."""
        if self.new_reference:
            emit("reference.made", run=run, job=job)
        if self.drifted:
            found = {f"{finding.side} {finding.name}": "; ".join(finding.reasons) for finding in self.drifted}
            emit("drift.found", run=run, job=job, found=found)


NOTHING = Judged()
BECAME_REFERENCE = "later runs are compared with this one"


def judge(connection: Connection, run: Run, tally: Tally) -> Judged:
    """Merge what is left of the run's profile, compare it with the reference, and store what was found."""
    while profiles.merge(connection, run.id):
        pass
    now = profiles.of_run(connection, run.id)
    limits = run.job.drift
    if now is None or limits is None:
        return NOTHING
    before = profiles.reference(connection, run)
    if before is None:
        return _first(connection, run, tally, limits, now)
    if before.run == run.id:  # it was requeued, and has more rows now
        profiles.record(connection, run.id, before.id, None, BECAME_REFERENCE)
        return Judged(now)
    from scorebeat.drift import comparison  # noqa: PLC0415 -- SciPy takes a quarter of a second, and few commands close runs

    own = now
    why_not = comparison.why_not(before.profile, now, limits)
    if why_not is not None and (both := profiles.add_waiting(connection, run)) is not None:
        now = both
        why_not = comparison.why_not(before.profile, now, limits)
    if why_not is not None:
        waits = now.rows < limits.min_rows <= before.profile.rows
        why_not += "; the next run is compared together with this one" if waits else ""
        profiles.record(connection, run.id, before.id, None, why_not, waits=waits)
        return Judged(own)
    findings = comparison.compare(before.profile, now, limits)
    profiles.record(connection, run.id, before.id, findings, None)
    return Judged(own, tuple(finding for finding in findings if finding.reasons))


def adopt(connection: Connection, run: Run, judged: Judged) -> None:
    """Let later runs be compared with this one, which readers see now, if it is to become the reference."""
    if judged.new_reference and judged.profile is not None:
        made = profiles.become_reference(connection, run, judged.profile)
        profiles.record(connection, run.id, made, None, BECAME_REFERENCE)


def _first(connection: Connection, run: Run, tally: Tally, limits: DriftLimits, now: Profile) -> Judged:
    """A run without a reference becomes it, if it scored all rows that it should and has enough of them."""
    if run.selection != EVERYTHING or not tally.has_looked_at_all:
        why_not = "there is no reference yet, and this run did not score all pending rows"
    elif now.rows < limits.min_rows:
        why_not = (
            f"there is no reference yet, and the sample of this run has {now.rows:,} rows, fewer than min_rows = "
            f"{limits.min_rows:,}"
        )
    else:
        profiles.record(
            connection, run.id, None, None, "there is no reference yet; this run becomes it when it is shown"
        )
        return Judged(now, new_reference=True)
    profiles.record(connection, run.id, None, None, why_not)
    return Judged(now)
