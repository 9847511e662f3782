"""The audit: who did what, and when."""

from typing import Any

from sqlalchemy import Connection, select

from scorebeat.db.schema.tables import actions


def record(connection: Connection, by: str, action: str, subject: str, **details: Any) -> None:
    """Record an action in the caller's transaction; `subject` is what it was done to, such as `run 17`."""
    connection.execute(actions.insert().values(by=by, action=action, subject=subject, details=details))


def is_recorded(connection: Connection, action: str, subject: str) -> bool:
    """Whether this was ever done to the subject."""
    done = select(actions.c.id).where(actions.c.action == action, actions.c.subject == subject).limit(1)
    return connection.execute(done).first() is not None


def details(connection: Connection, action: str) -> list[tuple[str, dict[str, Any]]]:
    """Subject and details of each action of this kind, the oldest first."""
    wanted = select(actions.c.subject, actions.c.details).where(actions.c.action == action).order_by(actions.c.id)
    return [(row.subject, row.details) for row in connection.execute(wanted)]
