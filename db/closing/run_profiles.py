"""The comparison of a run that ends with its reference; the first whole run becomes the reference."""

from dataclasses import dataclass

from billiard.exceptions import SoftTimeLimitExceeded
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import one_line
from scorebeat.core.events import emit
from scorebeat.core.jobs.drift_limits import DriftLimits
from scorebeat.db.closing.run_ends import Tally
from scorebeat.db.ledger.evidence import profiles
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
    why_not: str | None = None
    """Why it was compared with nothing, if that is no failure: it has too few rows, or there is no reference."""
    failure: str | None = None
    """Why its profile, or a part of it, or the comparison failed."""

    def log(self, run: int, job: str) -> None:
        """To be called when the transaction is committed."""
        if self.new_reference:
            emit("reference.made", run=run, job=job)
        if self.drifted:
            found = {f"{finding.side} {finding.name}": "; ".join(finding.reasons) for finding in self.drifted}
            emit("drift.found", run=run, job=job, found=found)


NOTHING = Judged()
BECAME_REFERENCE = "later runs are compared with this one"
NOT_LOOKED_AT = (
    "none of the rows that it scored was looked at: its workers are older, or their processes died before they could "
    "store what they had looked at"
)


def judge(connection: Connection, run: Run, tally: Tally) -> Judged:
    """Merge what is left of the run's profile, compare it with the reference, and store what was found.

    An error of ours does not keep the run open: it is returned as `failure`, and stored.
    """
    limits = run.job.drift
    if limits is None:
        return NOTHING
    try:
        with connection.begin_nested():
            return _judge(connection, run, tally, limits)
    except (DBAPIError, SoftTimeLimitExceeded):
        raise  # the run is closed by the next try
    except Exception as error:  # noqa: BLE001 -- whatever it is, it would fail each time
        failure = f"the comparison failed: {type(error).__name__}: {one_line(error)}"
        profiles.record_failure(connection, run.id, failure)
        return Judged(failure=failure)


def _judge(connection: Connection, run: Run, tally: Tally, limits: DriftLimits) -> Judged:
    profiles.merge_rest(connection, run.id)
    now = profiles.of_run(connection, run.id)
    if now is None or (not now.rows and not now.failures and profiles.has_failed(connection, run.id)):
        if not tally.scored:  # a run without a row is right to have no profile
            return NOTHING
        profiles.record_failure(connection, run.id, NOT_LOOKED_AT)
        return Judged(failure=NOT_LOOKED_AT)
    failure = None
    if now.failures:
        of = f"{now.failures} batch{'es' * (now.failures != 1)} of {tally.batches}"
        failure = f"the profile of {of} failed: {now.failure}"
    before = profiles.reference(connection, run)
    if before is None:
        return _first(connection, run, tally, limits, now, failure)
    if before.run == run.id:  # it was requeued, and has more rows now
        profiles.record(connection, run.id, before.id, None, BECAME_REFERENCE, failure=failure)
        return Judged(now, failure=failure)
    from scorebeat.drift import comparison  # noqa: PLC0415 -- SciPy takes a quarter of a second, and few commands close runs

    own = now
    why_not = comparison.why_not(before.profile, now, limits)
    if failure is None and why_not is not None and (both := profiles.add_waiting(connection, run)) is not None:
        now = both
        why_not = comparison.why_not(before.profile, now, limits)
    if why_not is not None:
        waits = failure is None and now.rows < limits.min_rows <= before.profile.rows
        why_not += "; the next run is compared together with this one" if waits else ""
        profiles.record(connection, run.id, before.id, None, failure or why_not, waits=waits, failure=failure)
        return Judged(own, why_not=why_not, failure=failure)
    findings = comparison.compare(before.profile, now, limits)
    profiles.record(connection, run.id, before.id, findings, None, failure=failure)
    return Judged(own, tuple(finding for finding in findings if finding.reasons), failure=failure)


def adopt(connection: Connection, run: Run, judged: Judged) -> None:
    """Let later runs be compared with this one, which readers see now, if it is to become the reference."""
    if judged.new_reference and judged.profile is not None:
        made = profiles.become_reference(connection, run, judged.profile)
        profiles.record(connection, run.id, made, None, BECAME_REFERENCE)


def _first(
    connection: Connection, run: Run, tally: Tally, limits: DriftLimits, now: Profile, failure: str | None
) -> Judged:
    """A run without a reference becomes it, if it scored all rows that it should and has enough of them."""
    if failure is not None:
        why_not = failure
    elif run.selection != EVERYTHING or not tally.has_looked_at_all:
        why_not = "there is no reference yet, and this run did not score all pending rows"
    elif now.rows < limits.min_rows:
        why_not = (
            f"there is no reference yet, and the sample of this run has {now.rows:,} rows, fewer than min_rows = "
            f"{limits.min_rows:,}"
        )
    else:
        why_not = "there is no reference yet; this run becomes it when it is shown"
        profiles.record(connection, run.id, None, None, why_not)
        return Judged(now, new_reference=True, why_not=why_not)
    profiles.record(connection, run.id, None, None, why_not, failure=failure)
    return Judged(now, why_not=why_not, failure=failure)
