"""A pooler between us and PostgreSQL: whether it keeps one session for each of our connections."""

from sqlalchemy import Connection, Engine

from scorebeat.core.errors import ServiceDown
from scorebeat.db.connect.session import WHAT_TO_DO

LOOKS = 5
"""Number of comparisons: another client may take the shared session in between."""


def advice(reason: str) -> str | None:
    """What to do if a pooler refused our settings; None if the reason is another."""
    if "startup parameter" not in reason:
        return None
    return f"A pooler before PostgreSQL takes no settings of sessions. {WHAT_TO_DO}"


def require_sessions(engine: Engine) -> None:
    """Raises ServiceDown if a pooler hands a session on after each transaction.

    Two connections that are open at once then share one session, which goes to the next that needs it.
    """
    with engine.connect() as one, engine.connect() as another:
        for _ in range(LOOKS):
            if _session(one) == _session(another):
                raise ServiceDown(
                    "a pooler before PostgreSQL pools transactions, so a statement that one session prepared is "
                    f"unknown in the next, and batches would fail. Let it pool sessions. {WHAT_TO_DO}"
                )


def _session(connection: Connection) -> int:
    number = int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
    connection.rollback()
    return number
