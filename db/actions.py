"""Who did what, when: the record that people and machines write to."""

from typing import Any

from sqlalchemy import Connection

from scorebeat.db.tables import actions


def record(connection: Connection, by: str, action: str, subject: str, **details: Any) -> None:
    """Note an action in the caller's transaction; `subject` is what it was done to, such as `run 17`."""
    connection.execute(actions.insert().values(by=by, action=action, subject=subject, details=details))
