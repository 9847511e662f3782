"""Which errors of the database are transient, and which come back at every attempt."""

import re
from typing import Any

import adbc_driver_manager
import psycopg2
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import SourceLocked, one_line, shortened, text
from scorebeat.core.urls import redact

TRANSIENT_CLASSES = ("08", "25P03", "25P04", "40", "53", "55P03", "57014", "57P")
"""Connection lost, a session or statement ended from outside or by a timeout (25P03, 25P04, 57014), serialisation and
deadlock, out of resources, a lock not acquired in time, server shutting down."""
WRONG_SESSION = ("25006", "25P02", "26000")
"""The session cannot write, is in a failed transaction that we did not leave open, or does not know a statement that
we prepared: it belongs to another server, or a pooler handed it on. It is dropped, and a new one is tried."""
READ_ONLY = "25006"
LOCKED = "55P03"
PERMANENT = ("08P01", "22P03")
"""From an ingest these mean that bytes and column do not fit: another attempt cannot succeed."""


def is_transient(error: BaseException) -> bool:
    """Whether another attempt may succeed. The SQLSTATE decides; without one, whether the connection is to blame.

    A refused connection has no SQLSTATE, whatever the reason: too many clients, starting up, recovering.
    """
    original = error.orig if isinstance(error, DBAPIError) else error
    if original is None:
        return True
    state = sqlstate(original)
    if state is not None and is_wrong_session(original):
        # psycopg2's are transient unless a query caused them in a transaction that we made read-only
        return not isinstance(error, DBAPIError) or error.connection_invalidated
    if state is not None:
        return state.startswith(TRANSIENT_CLASSES) and state not in PERMANENT
    if isinstance(original, adbc_driver_manager.Error):
        return original.status_code == adbc_driver_manager.AdbcStatusCode.IO
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    return lost or isinstance(original, psycopg2.OperationalError)


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE of a driver's error, from either driver."""
    state: Any = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    return str(state) if state else None


def is_wrong_session(error: BaseException) -> bool:
    """Whether the session is to blame, and not the statement.

    0A000 (not supported) counts only for a cached plan whose table changed; the text is checked in English, which
    `lc_messages` of the server can change.
    """
    original = error.orig if isinstance(error, DBAPIError) else error
    state = sqlstate(original) if original is not None else None
    return state in WRONG_SESSION or (state == "0A000" and "cached plan" in str(original))


def is_read_only(error: BaseException) -> bool:
    """Whether a statement tried to write in a read-only transaction."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return original is not None and sqlstate(original) == READ_ONLY


def is_lock(error: BaseException) -> bool:
    """Whether a lock was not acquired in time: its holder is to blame, and the wait costs no attempt."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(error, SourceLocked) or (original is not None and sqlstate(original) == LOCKED)


def is_disk_full(error: BaseException) -> bool:
    """Whether there is no space on the server's disk, or its limit of temporary files is reached."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return original is not None and sqlstate(original) in ("53100", "53400")


def passes(error: BaseException) -> bool:
    """Whether waiting may be enough: a lock, or a transient error."""
    return is_lock(error) or is_transient(error)


def message_with_advice(error: Exception) -> str:
    """The message of an error; PostgreSQL's is on one line, with advice about a time limit of the role."""
    original = error.orig if isinstance(error, DBAPIError) else None
    return shortened(redact(str(error))) if original is None else one_line(message(original)) + advice(original)


def message(error: BaseException) -> str:
    """The message of an error as it may be stored and shown: without passwords, and PostgreSQL's without row values.

    The readers of a reason, in a log, in Flower, over HTTP or in a notice, may have no right to read the table.
    """
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    message = text(original)
    return redact(_without_values(message) if quotes_values(error) else message)


def quotes_values(error: BaseException) -> bool:
    """Whether its message and traceback may hold a row's values, and must not be logged."""
    original = error.orig if isinstance(error, DBAPIError) else error
    state = sqlstate(original) if original is not None else None
    return state is not None and state.startswith(_QUOTING) and state not in _QUOTING_NAMES


def _without_values(text: str) -> str:
    """PostgreSQL's message, in any language, with everything from its first to its last quotation mark hidden, because
    values may hold such marks too. Further lines, which have more of the row, are dropped except for the SQLSTATE."""
    before, _, message = text.rpartition(_SEVERITY) if _SEVERITY in text else ("", "", text)
    message, _, rest = _QUOTED.sub(HIDDEN, message).partition("\n")
    state = _SQLSTATE.search(rest)
    kept = before.rpartition("[libpq]")[0]
    return f"{kept}{message.strip()}{f' ({state[0]})' if state else ''}"


HIDDEN = '"***"'
_QUOTING = ("22", "23", "38", "39", "54", "P0", "XX")
"""Classes of SQLSTATE whose messages quote values: data, constraints, functions and internal errors."""
_QUOTING_NAMES = ("22021", "22P05")
"""Exceptions in those classes: they quote only names of encodings."""
_SEVERITY = "ERROR:"
_QUOTED = re.compile('["\u201c-\u201e\u00ab\u00bb].*["\u201c-\u201e\u00ab\u00bb]', re.DOTALL)
_SQLSTATE = re.compile(r"SQLSTATE:? ?\w{5}")


def advice(error: BaseException) -> str:
    """What to do where a time limit of the role or database may be to blame; empty for all other errors."""
    closed = sqlstate(error) is None and _CLOSED.search(text(error))  # the driver lost the reason
    name = _TIME_LIMITS.get(_TRANSACTION if closed else sqlstate(error) or "")
    if name is None:
        return ""
    return f" (`SHOW {name}` shows the role's limit; `ALTER ROLE name SET {name} = '...'` raises it)"


_CLOSED = re.compile(r"\A(?!.*FATAL:(?!.*transaction timeout)).*server closed the connection", re.DOTALL)
"""Unless PostgreSQL reports another reason."""
_TRANSACTION = "25P04"
_TIME_LIMITS = {
    "57014": "statement_timeout",
    "25P03": "idle_in_transaction_session_timeout",
    _TRANSACTION: "transaction_timeout",
}


def is_about_values(error: BaseException) -> bool:
    """Whether a row's value cannot be computed or stored: classes 22 (data) and 54 (too large), but not 22P03."""
    original = error.orig if isinstance(error, DBAPIError) else error
    state = sqlstate(original) if original is not None else None
    return state is not None and state.startswith(("22", "54")) and state not in PERMANENT


def is_database_error(error: BaseException) -> bool:
    return isinstance(error, (DBAPIError, adbc_driver_manager.Error))


def breaks_connection(error: BaseException) -> bool:
    """Whether the connection must not be used again."""
    if isinstance(error, adbc_driver_manager.Error):
        state = sqlstate(error)
        return (
            is_wrong_session(error)
            or error.status_code == adbc_driver_manager.AdbcStatusCode.IO
            or bool(state and state.startswith(("08", "25P03", "25P04", "57P")))
        )
    return False
