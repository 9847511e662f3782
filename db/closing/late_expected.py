"""Runs that will be late by their forecast: recorded once each, and once when the forecast is better again."""

from datetime import datetime

from sqlalchemy import Connection, text

from scorebeat.db.closing.run_totals import NOTIFIED_EVENTS
from scorebeat.db.records import audit
from scorebeat.db.schema.monitoring_tables import LATE_EXPECTED

AVERTED = "late.averted"
BY = "scorebeat"


def watched(connection: Connection) -> list[int]:
    """Open runs whose results may be promised, and that have not ended before: their first end decides lateness."""
    rows = connection.execute(
        text(
            "SELECT r.id FROM scorebeat.runs r JOIN scorebeat.jobs j ON j.name = r.job"
            " WHERE r.state IN ('planning', 'running') AND j.removed_at IS NULL"
            " AND (r.deadline_at > clock_timestamp() OR j.spec ->> 'results_by' IS NOT NULL)"
            " AND NOT EXISTS (SELECT FROM scorebeat.run_sums s WHERE s.run_id = r.id) ORDER BY r.id"
        )
    )
    return list(rows.scalars())


def take(connection: Connection, run_id: int, action: str) -> bool:
    """Whether nobody has recorded it yet, `LATE_EXPECTED` or `AVERTED`; the caller then does, in this transaction."""
    is_unrecorded = connection.execute(
        text(
            "SELECT NOT EXISTS (SELECT FROM scorebeat.actions WHERE subject = 'run ' || :run AND action = :action)"
            " FROM scorebeat.runs WHERE id = :id AND state IN ('planning', 'running') FOR NO KEY UPDATE SKIP LOCKED"
        ),
        {"id": run_id, "run": str(run_id), "action": action},
    ).scalar_one_or_none()
    return bool(is_unrecorded)


def is_recorded(connection: Connection, run_id: int) -> bool:
    """Whether the run was expected to be late at some time."""
    return recorded(connection, run_id) is not None


def note(connection: Connection, run_id: int, needed_at: datetime, expected_end: datetime, reason: str) -> None:
    """Record it with the run, and make the notice if the job wants it."""
    audit.record(
        connection,
        BY,
        LATE_EXPECTED,
        f"run {run_id}",
        needed_at=needed_at.isoformat(),
        expected_end=expected_end.isoformat(),
        reason=reason,
    )
    connection.execute(
        text(
            "INSERT INTO scorebeat.notices (run_id, event, happened_at, kind)"
            " SELECT r.id, 'late', clock_timestamp(), :kind FROM scorebeat.runs r"
            " JOIN scorebeat.jobs j ON j.name = r.job WHERE r.id = :run AND j.removed_at IS NULL"
            f" AND j.spec ->> 'notify' IS NOT NULL AND {NOTIFIED_EVENTS} ? :kind ON CONFLICT DO NOTHING"
        ),
        {"run": run_id, "kind": LATE_EXPECTED},
    )


def note_averted(connection: Connection, run_id: int, expected_end: datetime) -> None:
    audit.record(connection, BY, AVERTED, f"run {run_id}", expected_end=expected_end.isoformat())


def recorded(connection: Connection, run_id: int) -> dict[str, str] | None:
    """What `note` recorded: `needed_at`, `expected_end` and `reason`; None if it recorded nothing."""
    return connection.execute(
        text(
            "SELECT details FROM scorebeat.actions WHERE subject = 'run ' || :run AND action = :action"
            " ORDER BY id DESC LIMIT 1"
        ),
        {"run": str(run_id), "action": LATE_EXPECTED},
    ).scalar()
