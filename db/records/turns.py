"""Turns: exclusive work on one thing, by row locks in the ledger.

Any SQL, also the user's, could take the number of an advisory lock. A query that runs READ ONLY locks no row.
"""

from sqlalchemy import Connection, text

DISPATCH = "turn: dispatch"
PUBLISH = "turn: publish"
"""Names in `counters`; the column `job` has the queue or the model, and the values stay 0."""


def take(connection: Connection, turn: str, of: str) -> None:
    """Wait until nobody else has this turn, and keep it until the transaction ends."""
    _take(connection, turn, of, "FOR UPDATE")


def share(connection: Connection, turn: str, of: str) -> None:
    """Wait until nobody has taken this turn. Until the transaction ends others may share it, but not take it."""
    _take(connection, turn, of, "FOR SHARE")


def try_share(connection: Connection, turn: str, of: str) -> bool:
    """`share` without waiting; False if somebody has taken the turn."""
    return _lock(connection, turn, of, "FOR SHARE SKIP LOCKED") or _make(connection, turn, of)


def _take(connection: Connection, turn: str, of: str, how: str) -> None:
    if not _lock(connection, turn, of, how):
        _make(connection, turn, of)
        _lock(connection, turn, of, how)


def _lock(connection: Connection, turn: str, of: str, how: str) -> bool:
    """Lock the row; False if it does not exist, or was skipped."""
    found = connection.execute(
        text(f"SELECT 1 FROM scorebeat.counters WHERE name = :turn AND job = :of {how}"), {"turn": turn, "of": of}
    )
    return found.one_or_none() is not None


def _make(connection: Connection, turn: str, of: str) -> bool:
    """Make the row, or wait for another transaction that is making it. True if we made it."""
    made = connection.execute(
        text(
            "INSERT INTO scorebeat.counters (name, job, value) VALUES (:turn, :of, 0)"
            " ON CONFLICT DO NOTHING RETURNING 1"
        ),
        {"turn": turn, "of": of},
    )
    return made.one_or_none() is not None
