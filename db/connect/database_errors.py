"""Which errors of the database pass by themselves, and which will come back at every attempt."""

import re
from typing import Any

import adbc_driver_manager
import psycopg2
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import SourceLocked, one_line, shortened, text
from scorebeat.core.urls import redact

TRANSIENT_CLASSES = ("08", "25P03", "25P04", "40", "53", "55P03", "57014", "57P")
"""Connection lost, a session or statement ended from outside or by a timeout (25P03, 25P04, 57014), serialisation and
deadlock, out of resources, a lock not had in time, server shutting down."""
WRONG_SESSION = ("25006", "25P02", "26000")
"""A session that cannot write, that is in a failed transaction which nobody of ours left open, or that does not know
what we prepared: of another server, or handed on by a pooler. It is dropped, and a new one tried."""
READ_ONLY = "25006"
LOCKED = "55P03"
PERMANENT = ("08P01", "22P03")
"""From an ingest these say that bytes and column do not fit: no other attempt mends that."""


def is_transient(error: BaseException) -> bool:
    """Another attempt may succeed. The SQLSTATE decides; where there is none, whether the connection is to blame.

    A refusal to connect has none, whatever the server said: too many clients, starting up, recovering.
    """
    original = error.orig if isinstance(error, DBAPIError) else error
    if original is None:
        return True
    state = sqlstate(original)
    if state is not None and is_wrong_session(original):
        # psycopg2's are only so where they did not come from a query in a transaction that we made read-only
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
    """Not the statement is to blame, but the session that it was sent to.

    Of the states 0A000 (not supported) only a plan that was kept while a table changed; its text is in English unless
    the server's `lc_messages` says otherwise.
    """
    original = error.orig if isinstance(error, DBAPIError) else error
    state = sqlstate(original) if original is not None else None
    return state in WRONG_SESSION or (state == "0A000" and "cached plan" in str(original))


def is_read_only(error: BaseException) -> bool:
    """Something was to be written in a transaction that only reads."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return original is not None and sqlstate(original) == READ_ONLY


def is_lock(error: BaseException) -> bool:
    """A lock was not had in time: whoever has it is to blame, and the wait costs nothing."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(error, SourceLocked) or (original is not None and sqlstate(original) == LOCKED)


def passes(error: BaseException) -> bool:
    """Waiting may be all that it takes: a lock, or what is transient."""
    return is_lock(error) or is_transient(error)


def told(error: Exception) -> str:
    """What an error says, PostgreSQL's own on one line and with what to do about a time limit of the role."""
    original = error.orig if isinstance(error, DBAPIError) else None
    return shortened(redact(str(error))) if original is None else one_line(words(original)) + advice(original)


def words(error: BaseException) -> str:
    """What an error says, as it may be stored and shown: without passwords, and of PostgreSQL's without a row's values.

    Who reads a reason, in a log, in Flower, over HTTP or in a notice, may not be allowed to read the table.
    """
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    said = text(original)
    return redact(_without_values(said) if quotes_values(error) else said)


def quotes_values(error: BaseException) -> bool:
    """Its message and its traceback may hold a row's values: they are not for a log."""
    original = error.orig if isinstance(error, DBAPIError) else error
    state = sqlstate(original) if original is not None else None
    return state is not None and state.startswith(_QUOTING) and state not in _QUOTING_NAMES


def _without_values(said: str) -> str:
    """PostgreSQL's message, whatever its language, with all between its quotation marks hidden, as values hold some
    themselves; its further lines, which tell more of the row, are left out, but for the SQLSTATE."""
    before, _, message = said.rpartition(_SEVERITY) if _SEVERITY in said else ("", "", said)
    message, _, rest = _QUOTED.sub(HIDDEN, message).partition("\n")
    state = _SQLSTATE.search(rest)
    kept = before.rpartition("[libpq]")[0]
    return f"{kept}{message.strip()}{f' ({state[0]})' if state else ''}"


HIDDEN = '"***"'
_QUOTING = ("22", "23", "38", "39", "54", "P0", "XX")
"""Classes of SQLSTATE whose messages quote values: of data, constraints, functions and what nobody foresaw."""
_QUOTING_NAMES = ("22021", "22P05")
"""They quote the names of encodings."""
_SEVERITY = "ERROR:"
_QUOTED = re.compile('["\u201c-\u201e\u00ab\u00bb].*["\u201c-\u201e\u00ab\u00bb]', re.DOTALL)
_SQLSTATE = re.compile(r"SQLSTATE:? ?\w{5}")


def advice(error: BaseException) -> str:
    """What to do where a time limit of the role or database may be to blame; empty for all other errors."""
    closed = sqlstate(error) is None and _CLOSED.search(text(error))  # the driver lost the reason
    name = _TIME_LIMITS.get(_TRANSACTION if closed else sqlstate(error) or "")
    if name is None:
        return ""
    return f" (`SHOW {name}` tells what the role may take; `ALTER ROLE name SET {name} = '...'` gives it more)"


_CLOSED = re.compile(r"\A(?!.*FATAL:(?!.*transaction timeout)).*server closed the connection", re.DOTALL)
"""Unless PostgreSQL says another reason."""
_TRANSACTION = "25P04"
_TIME_LIMITS = {
    "57014": "statement_timeout",
    "25P03": "idle_in_transaction_session_timeout",
    _TRANSACTION: "transaction_timeout",
}


def is_about_values(error: BaseException) -> bool:
    """A row's value cannot be computed or stored: classes 22 (data) and 54 (too large), but not 22P03."""
    original = error.orig if isinstance(error, DBAPIError) else error
    state = sqlstate(original) if original is not None else None
    return state is not None and state.startswith(("22", "54")) and state not in PERMANENT


def is_database_error(error: BaseException) -> bool:
    return isinstance(error, (DBAPIError, adbc_driver_manager.Error))


def breaks_connection(error: BaseException) -> bool:
    """The connection is not to be used again."""
    if isinstance(error, adbc_driver_manager.Error):
        state = sqlstate(error)
        return (
            is_wrong_session(error)
            or error.status_code == adbc_driver_manager.AdbcStatusCode.IO
            or bool(state and state.startswith(("08", "25P03", "25P04", "57P")))
        )
    return False
