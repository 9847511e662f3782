"""A pooler between us and PostgreSQL: whether it leaves us our sessions, and their settings."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, Engine

from scorebeat.core.errors import ServiceDown

PROVED = (
    "client_connection_check_interval",
    "jit",
    "max_parallel_workers_per_gather",
    "timezone",
    "extra_float_digits",
)
"""Read back from each new session: of what all have, those that PostgreSQL writes as we write them."""
QUESTION = "SELECT " + ", ".join(f"current_setting('{name}')" for name in PROVED)

LOOKS = 5
"""Another client may come in between."""

WHAT_TO_DO = "Connect directly, or do what docs/how-to/own-servers.md says of PgBouncer; nothing was changed."


def require_settings(found: Sequence[object], wanted: Mapping[str, str]) -> None:
    """Raises ServiceDown where the answer to QUESTION is not what the session was told to be at its start."""
    lost = [
        f"{name} is {is_now}, not {wanted[name]}"
        for name, is_now in zip(PROVED, found, strict=True)
        if is_now != wanted[name]
    ]
    if lost:
        raise ServiceDown(
            f"a pooler before PostgreSQL dropped the settings of our sessions: {'; '.join(lost)}. {WHAT_TO_DO}"
        )


def advice(reason: str) -> str | None:
    """What to do where a pooler refused our settings; None where the reason is another."""
    if "startup parameter" not in reason:
        return None
    return f"A pooler before PostgreSQL takes no settings of sessions. {WHAT_TO_DO}"


def require_sessions(engine: Engine) -> None:
    """Raises ServiceDown where a pooler hands a session on after each transaction.

    Two connections that are open at once are then one session: it goes to whoever asks next.
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
