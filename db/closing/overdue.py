"""Complete results that were needed by a time of day and are missing: recorded and reported once for each time."""

from datetime import datetime

from sqlalchemy import Connection, text

from scorebeat.db.closing.run_totals import NOTIFIED_EVENTS, OVERDUE
from scorebeat.db.records import audit


def take(connection: Connection, job: str, needed_by: datetime) -> bool:
    """Whether nobody has recorded yet that these results are overdue; the caller then does, in this transaction."""
    is_unrecorded = connection.execute(
        text(
            "SELECT NOT EXISTS (SELECT FROM scorebeat.actions WHERE subject = 'job ' || :job AND action = :action"
            " AND details ->> 'needed_by' = :needed_by) FROM scorebeat.jobs WHERE name = :job"
            " FOR NO KEY UPDATE SKIP LOCKED"
        ),
        {"job": job, "action": OVERDUE, "needed_by": needed_by.isoformat()},
    ).scalar_one_or_none()
    return bool(is_unrecorded)


def newest_run(connection: Connection, job: str) -> int | None:
    """The run that the notice is about; None if the job has none yet."""
    found: int | None = connection.execute(
        text("SELECT max(id) FROM scorebeat.runs WHERE job = :job"), {"job": job}
    ).scalar_one()
    return found


def note(connection: Connection, job: str, needed_by: datetime, reason: str, run_id: int) -> None:
    """Record it with the run, and make the run's notice `late`, which also reports a failure of the run."""
    failed_at: datetime | None = connection.execute(
        text("SELECT finished_at FROM scorebeat.runs WHERE id = :id AND state = 'failed'"), {"id": run_id}
    ).scalar_one_or_none()
    failed = {"failed_at": failed_at.isoformat()} if failed_at is not None else {}
    by, needed = "scorebeat", needed_by.isoformat()
    audit.record(connection, by, OVERDUE, f"job {job}", needed_by=needed, reason=reason, run=run_id, **failed)
    connection.execute(
        text(
            "INSERT INTO scorebeat.notices (run_id, event, happened_at) SELECT :run, 'late', :needed_by"
            " FROM scorebeat.jobs j WHERE j.name = :job AND j.removed_at IS NULL"
            f" AND j.spec ->> 'notify' IS NOT NULL AND {NOTIFIED_EVENTS} ? 'late' ON CONFLICT DO NOTHING"
        ),
        {"run": run_id, "job": job, "needed_by": needed_by},
    )


def why(connection: Connection, job: str, needed_by: datetime) -> str | None:
    """The reason that `note` recorded for results needed by then; None if it recorded nothing."""
    found: str | None = connection.execute(
        text(
            "SELECT details ->> 'reason' FROM scorebeat.actions WHERE subject = 'job ' || :job AND action = :action"
            " AND details ->> 'needed_by' = :needed_by"
        ),
        {"job": job, "action": OVERDUE, "needed_by": needed_by.isoformat()},
    ).scalar()
    return found
