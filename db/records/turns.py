"""Turns: who works at one thing alone, by row locks in the ledger.

The number of an advisory lock can be taken by any SQL, the user's too. A query that runs READ ONLY locks no row.
"""

from sqlalchemy import Connection, text

DISPATCH = "turn: dispatch"
PUBLISH = "turn: publish"
"""Names in `counters`, each with the queue or the model in the place of the job; their values stay 0."""


def take(connection: Connection, turn: str, of: str) -> None:
    """Wait until nobody else has this turn, and keep it until the transaction ends."""
    _take(connection, turn, of, "FOR UPDATE")


def share(connection: Connection, turn: str, of: str) -> None:
    """Wait until nobody has taken this turn; until the transaction ends others may share it, and nobody take it."""
    _take(connection, turn, of, "FOR SHARE")


def try_share(connection: Connection, turn: str, of: str) -> bool:
    """`share`; False, without waiting, where somebody has taken it."""
    return _locked(connection, turn, of, "FOR SHARE SKIP LOCKED") or _made(connection, turn, of)


def _take(connection: Connection, turn: str, of: str, how: str) -> None:
    if not _locked(connection, turn, of, how):
        _made(connection, turn, of)
        _locked(connection, turn, of, how)


def _locked(connection: Connection, turn: str, of: str, how: str) -> bool:
    """False where there is no such row, or it was skipped."""
    found = connection.execute(
        text(f"SELECT 1 FROM scorebeat.counters WHERE name = :turn AND job = :of {how}"), {"turn": turn, "of": of}
    )
    return found.one_or_none() is not None


def _made(connection: Connection, turn: str, of: str) -> bool:
    """The row is there, made by us or by another; whose transaction is waited for."""
    made = connection.execute(
        text(
            "INSERT INTO scorebeat.counters (name, job, value) VALUES (:turn, :of, 0)"
            " ON CONFLICT DO NOTHING RETURNING 1"
        ),
        {"turn": turn, "of": of},
    )
    return made.one_or_none() is not None
