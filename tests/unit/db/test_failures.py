"""Which database errors pass by themselves: the SQLSTATE decides, never the exception's class."""

from typing import Any

import adbc_driver_manager
import psycopg2
import pytest
from adbc_driver_manager import AdbcStatusCode
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import ModelError
from scorebeat.db.batch_io.columns import detail, is_repeated_key
from scorebeat.db.connect.database_errors import advice, breaks_connection, is_database_error, is_transient, sqlstate


def from_driver(state: str | None, status: AdbcStatusCode = AdbcStatusCode.INTERNAL, message: str = "oh") -> Any:
    return adbc_driver_manager.OperationalError(message, status_code=status, sqlstate=state)


def from_engine(state: str | None, *, invalidated: bool = False, kind: Any = psycopg2.ProgrammingError) -> DBAPIError:
    class Original(kind):  # type: ignore[misc]  # psycopg2 publishes no types
        pgcode = state

    return DBAPIError("SELECT 1", {}, Original("oh"), connection_invalidated=invalidated)


LOST = ["08006", "08001", "40001", "40P01", "53100", "53200", "53300", "57P01", "57P02", "57P03"]
ENDED_FROM_OUTSIDE = ["25P03", "25P04", "57014"]
TRANSIENT = [*LOST, *ENDED_FROM_OUTSIDE]
PERMANENT = ["08P01", "22P03", "22001", "23505", "42601", "42P01", "42501", "25001", "XX000", "0A000"]
WRONG_SESSION = ["25006", "25P02", "26000"]


@pytest.mark.parametrize("state", TRANSIENT)
def test_trouble_of_the_server_passes(state: str) -> None:
    assert is_transient(from_driver(state))
    assert is_transient(from_engine(state))


@pytest.mark.parametrize("state", PERMANENT)
def test_trouble_of_the_statement_or_its_rows_does_not_pass(state: str) -> None:
    assert not is_transient(from_driver(state))
    assert not is_transient(from_engine(state))


@pytest.mark.parametrize("state", WRONG_SESSION)
def test_a_session_that_takes_no_writes_or_is_not_ours_any_more_passes_with_it(state: str) -> None:
    assert is_transient(from_driver(state))
    assert breaks_connection(from_driver(state))
    assert is_transient(from_engine(state, invalidated=True))
    assert not is_transient(from_engine(state))  # its pool did not blame the session, but a query that writes


def test_a_plan_that_was_kept_while_its_table_changed_is_the_sessions() -> None:
    kept = from_driver("0A000", message="cached plan must not change result type")

    assert is_transient(kept)
    assert breaks_connection(kept)


@pytest.mark.parametrize("state", ["08P01", "22P03"])
def test_bytes_that_do_not_fit_a_column_do_not_pass_whatever_the_status(state: str) -> None:
    assert not is_transient(from_driver(state, AdbcStatusCode.IO))


def test_without_a_state_a_lost_connection_passes_and_nothing_else_does() -> None:
    assert is_transient(from_driver(None, AdbcStatusCode.IO))
    assert not is_transient(from_driver(None, AdbcStatusCode.INVALID_ARGUMENT))
    assert is_transient(from_engine(None, invalidated=True))
    assert not is_transient(from_engine(None))


def test_a_connection_that_failed_without_a_reason_is_a_passing_failure() -> None:
    assert is_transient(from_engine(None, kind=psycopg2.OperationalError))
    assert is_transient(psycopg2.OperationalError("too many clients already"))
    assert not is_transient(from_engine("42P01", kind=psycopg2.OperationalError))


def test_only_errors_of_a_driver_are_the_databases() -> None:
    assert is_database_error(from_driver("40001"))
    assert is_database_error(from_engine("40001"))
    assert not is_database_error(ModelError("oh"))
    assert not is_transient(ModelError("oh"))


@pytest.mark.parametrize(
    ("state", "status", "broken"),
    [
        (None, AdbcStatusCode.IO, True),
        ("57P01", AdbcStatusCode.INTERNAL, True),
        ("08006", AdbcStatusCode.INTERNAL, True),
        ("25P03", AdbcStatusCode.INTERNAL, True),
        ("57014", AdbcStatusCode.CANCELLED, False),
        ("23505", AdbcStatusCode.ALREADY_EXISTS, False),
        ("40001", AdbcStatusCode.INTERNAL, False),
    ],
)
def test_a_connection_is_replaced_only_when_it_is_broken(
    state: str | None, status: AdbcStatusCode, broken: bool
) -> None:
    assert breaks_connection(from_driver(state, status)) is broken


def test_a_repeated_key_is_recognised_by_its_state_and_named_by_its_detail() -> None:
    repeated = from_driver("23505", message="INTERNAL: oh\nDETAIL:  Key (id)=(7) already exists.\nCONTEXT:  COPY t")

    assert is_repeated_key(repeated)
    assert not is_repeated_key(from_driver("23503"))
    assert not is_repeated_key(from_engine("23505"))
    assert detail(repeated) == "Key (id)=(7) already exists."
    assert detail(from_driver(None, message="one\ntwo")) == "one two"


def test_both_drivers_report_their_state_the_same_way() -> None:
    assert sqlstate(from_driver("40001")) == sqlstate(from_engine("40001").orig or ValueError()) == "40001"
    assert sqlstate(ValueError("oh")) is None


@pytest.mark.parametrize(
    ("reason", "has_advice"),
    [
        ("", True),
        ("FATAL:  terminating connection due to transaction timeout\n", True),
        ("FATAL:  terminating connection due to administrator command\n", False),
    ],
)
def test_a_closed_connection_names_the_time_limit_unless_it_has_a_reason(reason: str, has_advice: bool) -> None:
    closed = from_driver(None, AdbcStatusCode.IO, f"IO: {reason}server closed the connection unexpectedly")

    assert bool(advice(closed)) is has_advice
