"""Notices: what is to be told of a run to its job's address, tried again until it was delivered."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

FIRST_PAUSE = timedelta(seconds=10)
LONGEST_PAUSE = timedelta(hours=1)
MOST_ATTEMPTS = 24
"""With these pauses a receiver may be away for half a day."""


@dataclass(frozen=True)
class Notice:
    """One that is due, and is this attempt's for as long as its pause."""

    id: int
    run_id: int
    job: str
    event: str
    """`finished`, `failed` or `late`."""
    happened_at: datetime
    url: str | None
    """The job's address now; None when it has none any more."""
    attempts: int
    """This one included."""


def take_due(connection: Connection, limit: int) -> list[Notice]:
    """Take notices that are due, the oldest first. What is not settled later is due again after its pause."""
    rows = connection.execute(
        text(
            "WITH due AS (SELECT id FROM scorebeat.notices WHERE delivered_at IS NULL AND given_up_at IS NULL"
            " AND due_at <= clock_timestamp() ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED),"
            " taken AS (UPDATE scorebeat.notices n SET attempts = n.attempts + 1, due_at = clock_timestamp()"
            " + least(CAST(:first AS interval) * power(2, least(n.attempts, 20)), CAST(:longest AS interval))"
            " FROM due WHERE n.id = due.id RETURNING n.id, n.run_id, n.event, n.happened_at, n.attempts)"
            " SELECT t.id, t.run_id, r.job, t.event, t.happened_at,"
            " CASE WHEN j.removed_at IS NULL THEN j.spec ->> 'notify' END AS url, t.attempts"
            " FROM taken t JOIN scorebeat.runs r ON r.id = t.run_id JOIN scorebeat.jobs j ON j.name = r.job"
            " ORDER BY t.id"
        ),
        {"limit": limit, "first": FIRST_PAUSE, "longest": LONGEST_PAUSE},
    )
    return [Notice(**row._mapping) for row in rows]


def are_due(connection: Connection) -> bool:
    return bool(
        connection.execute(
            text(
                "SELECT EXISTS (SELECT 1 FROM scorebeat.notices WHERE delivered_at IS NULL AND given_up_at IS NULL"
                " AND due_at <= clock_timestamp())"
            )
        ).scalar_one()
    )


def run_status(connection: Connection, run_id: int) -> dict[str, Any]:
    """The run as readers of `scorebeat.run_status` see it."""
    row = connection.execute(text("SELECT * FROM scorebeat.run_status WHERE id = :id"), {"id": run_id}).one()
    return dict(row._mapping)


def delivered(connection: Connection, notice: Notice) -> None:
    connection.execute(
        text("UPDATE scorebeat.notices SET delivered_at = clock_timestamp(), error = NULL WHERE id = :id"),
        {"id": notice.id},
    )


def failed(connection: Connection, notice: Notice, error: str) -> bool:
    """The attempt failed; True when it was the last, and the notice is given up."""
    is_last = notice.url is None or notice.attempts >= MOST_ATTEMPTS
    connection.execute(
        text(
            "UPDATE scorebeat.notices SET error = :error,"
            " given_up_at = CASE WHEN :is_last THEN clock_timestamp() END"
            " WHERE id = :id AND delivered_at IS NULL"
        ),
        {"id": notice.id, "error": error, "is_last": is_last},
    )
    return is_last
