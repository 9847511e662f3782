"""Notices: events of a run that are posted to its job's address, and tried again until they are delivered."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

CLAIM = timedelta(minutes=1)
"""A notice that was taken is not taken again for this time, far longer than a post may last."""
FIRST_PAUSE = timedelta(seconds=10)
LONGEST_PAUSE = timedelta(hours=1)
MOST_ATTEMPTS = 24
"""With these pauses a receiver may be away for half a day."""

_PAUSE = (
    "least(CAST(:first AS interval) * power(2, least(greatest({attempts} - 1, 0), 20)), CAST(:longest AS interval))"
)
_PAUSES = {"first": FIRST_PAUSE, "longest": LONGEST_PAUSE}
_IS_DUE = "delivered_at IS NULL AND given_up_at IS NULL AND due_at <= clock_timestamp()"
_READ = (
    "SELECT t.id, t.run_id, r.job, coalesce(t.kind, t.event) AS event, t.happened_at,"
    " CASE WHEN j.removed_at IS NULL THEN j.spec ->> 'notify' END AS url, t.attempts"
    " FROM taken t JOIN scorebeat.runs r ON r.id = t.run_id JOIN scorebeat.jobs j ON j.name = r.job ORDER BY t.id"
)


@dataclass(frozen=True)
class Notice:
    """A due notice, which belongs to this attempt for the time of the claim."""

    id: int
    run_id: int
    job: str
    event: str
    """`finished`, `failed`, `late`, `late.expected`, `drift` or `held`."""
    happened_at: datetime
    url: str | None
    """The job's address now; None if it has none any more."""
    attempts: int
    """Number of attempts, including this one."""


def take_due(connection: Connection, limit: int) -> list[Notice]:
    """Take notices that are due, the oldest first. The attempt is counted here: without an outcome it is due again."""
    rows = connection.execute(
        text(
            f"WITH due AS (SELECT id FROM scorebeat.notices WHERE {_IS_DUE} AND attempts < :most"
            " ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED),"
            " taken AS (UPDATE scorebeat.notices n SET attempts = n.attempts + 1, due_at = clock_timestamp()"
            f" + greatest(CAST(:claim AS interval), {_PAUSE.format(attempts='(n.attempts + 1)')})"
            f" FROM due WHERE n.id = due.id RETURNING n.*) {_READ}"
        ),
        {"limit": limit, "most": MOST_ATTEMPTS, "claim": CLAIM, **_PAUSES},
    )
    return [Notice(**row._mapping) for row in rows]


def give_up_lost(connection: Connection) -> list[Notice]:
    """Give up notices whose last attempt nobody settled: its process died."""
    rows = connection.execute(
        text(
            f"WITH lost AS (SELECT id FROM scorebeat.notices WHERE {_IS_DUE} AND attempts >= :most"
            " FOR UPDATE SKIP LOCKED), taken AS (UPDATE scorebeat.notices n SET given_up_at = clock_timestamp(),"
            f" error = :error FROM lost WHERE n.id = lost.id RETURNING n.*) {_READ}"
        ),
        {"most": MOST_ATTEMPTS, "error": LOST},
    )
    return [Notice(**row._mapping) for row in rows]


LOST = "the process that posted it died, or lost the database"


def are_due(connection: Connection) -> bool:
    query = text(f"SELECT EXISTS (SELECT 1 FROM scorebeat.notices WHERE {_IS_DUE})")
    return bool(connection.execute(query).scalar_one())


def run_status(connection: Connection, run_id: int) -> dict[str, Any]:
    """The run as readers of `scorebeat.run_status` see it."""
    row = connection.execute(text("SELECT * FROM scorebeat.run_status WHERE id = :id"), {"id": run_id}).one()
    return dict(row._mapping)


def delivered(connection: Connection, notice: Notice) -> None:
    """Mark the notice as delivered, even if another attempt at it failed meanwhile."""
    connection.execute(
        text(
            "UPDATE scorebeat.notices SET delivered_at = clock_timestamp(), given_up_at = NULL, error = NULL"
            " WHERE id = :id AND delivered_at IS NULL"
        ),
        {"id": notice.id},
    )


def failed(connection: Connection, notice: Notice, error: str) -> bool:
    """The attempt failed: due again after its pause. True if it was the last, and the notice is given up."""
    is_last = notice.url is None or notice.attempts >= MOST_ATTEMPTS
    connection.execute(
        text(
            "UPDATE scorebeat.notices SET error = :error,"
            f" due_at = clock_timestamp() + {_PAUSE.format(attempts='attempts')},"
            " given_up_at = CASE WHEN :is_last THEN clock_timestamp() END"
            " WHERE id = :id AND attempts = :attempt AND delivered_at IS NULL AND given_up_at IS NULL"
        ),
        {"id": notice.id, "attempt": notice.attempts, "error": error, "is_last": is_last, **_PAUSES},
    )
    return is_last
