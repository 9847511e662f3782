"""How far a run is from its reference, as commands, pages and programs show it."""

from sqlalchemy import Connection

from scorebeat.core.errors import UsageError
from scorebeat.core.states import FINAL_RUN
from scorebeat.db.ledger import runs
from scorebeat.db.ledger.evidence import profiles
from scorebeat.db.ledger.evidence.profiles import RunDrift


def of_run(connection: Connection, run_id: int) -> RunDrift:
    """The comparison of the run; if there is none, why not. Raises UnknownName."""
    run = runs.get(connection, run_id)
    found = profiles.compared(connection, run_id)
    if found is not None and found.compared_at is not None:
        return found
    if run.job.drift is None:
        why_not = f"[jobs.{run.job.name}] has drift = false, so its runs keep no profile"
    elif run.state not in FINAL_RUN:
        why_not = "the run is open; it is compared when it has ended"
    else:
        why_not = f"the run is {run.state}, and no row that it scored was looked at"
    return RunDrift(run_id, found.rows if found is not None else 0, None, why_not, None, None)


def of_job(connection: Connection, job: str) -> RunDrift:
    """Of the newest run that was compared; if none was, of the newest that has a profile. Raises UsageError."""
    run_id = profiles.newest(connection, job)
    if run_id is None:
        raise UsageError(f"no run of job {job} has a profile yet; the next one that scores rows gets one")
    return of_run(connection, run_id)


def in_words(compared: RunDrift) -> str:
    """`compared with run 3: 2 of 10 columns too far`, or why nothing was compared."""
    if compared.findings is None:
        return f"nothing was compared: {compared.why_not}"
    drifted, columns = len(compared.drifted), len(compared.findings)
    return f"compared with {compared.reference}: {drifted or 'none'} of {columns} columns too far"
