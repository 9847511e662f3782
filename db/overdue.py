"""Complete results that were needed by a time of day and are not there: recorded and told once for each such time."""

from datetime import datetime

from sqlalchemy import Connection, text

from scorebeat.db import actions
from scorebeat.db.ended import TOLD_ON

ACTION = "results.overdue"


def note(connection: Connection, job: str, needed_by: datetime, reason: str) -> bool:
    """Record that the results are overdue; False when that was done, or somebody else is at it."""
    mine = connection.execute(
        text(
            "SELECT NOT EXISTS (SELECT FROM scorebeat.actions WHERE subject = 'job ' || :job AND action = :action"
            " AND details ->> 'needed_by' = :needed_by) FROM scorebeat.jobs WHERE name = :job"
            " FOR NO KEY UPDATE SKIP LOCKED"
        ),
        {"job": job, "action": ACTION, "needed_by": needed_by.isoformat()},
    ).scalar_one_or_none()
    if not mine:
        return False
    actions.record(connection, "scorebeat", ACTION, f"job {job}", needed_by=needed_by.isoformat(), reason=reason)
    return True


def why(connection: Connection, job: str, needed_by: datetime) -> str | None:
    """What `note` recorded of results that were needed by then; None where nothing is."""
    found: str | None = connection.execute(
        text(
            "SELECT details ->> 'reason' FROM scorebeat.actions WHERE subject = 'job ' || :job AND action = :action"
            " AND details ->> 'needed_by' = :needed_by"
        ),
        {"job": job, "action": ACTION, "needed_by": needed_by.isoformat()},
    ).scalar()
    return found


def tell(connection: Connection, job: str, needed_by: datetime) -> int | None:
    """Make the notice `late`, of the job's newest run; that run, or None when it has none yet."""
    run_id: int | None = connection.execute(
        text("SELECT max(id) FROM scorebeat.runs WHERE job = :job"), {"job": job}
    ).scalar_one()
    if run_id is not None:
        connection.execute(
            text(
                "INSERT INTO scorebeat.notices (run_id, event, happened_at) SELECT :run, 'late', :needed_by"
                " FROM scorebeat.jobs j WHERE j.name = :job AND j.removed_at IS NULL"
                f" AND j.spec ->> 'notify' IS NOT NULL AND {TOLD_ON} ? 'late' ON CONFLICT DO NOTHING"
            ),
            {"run": run_id, "job": job, "needed_by": needed_by},
        )
    return run_id
