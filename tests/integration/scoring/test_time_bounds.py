"""A statement that is stuck is ended: if somebody waits for its result, it has a bound of its own."""

from contextlib import AbstractContextManager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from scorebeat.api.service import Service
from scorebeat.core.settings import Settings
from scorebeat.db.connect.engine import LOCK_TIMEOUT
from scorebeat.db.reports import results
from scorebeat.db.reports.pages import run_pages
from tests.support.api_fixtures import Opener, opened, scored
from tests.support.ledger_fixtures import Ledger, ledger, trained

__all__ = ["ledger", "opened", "scored", "trained"]

STUCK = "SELECT pg_sleep(60)"


def sqlstate(error: DBAPIError) -> Any:
    return getattr(error.orig, "pgcode", None)


@pytest.mark.parametrize("reader", [run_pages, results], ids=["Flower and metrics", "pages of the API"])
def test_a_stuck_reader_is_ended(engine: Engine, reader: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "PATIENCE", "100ms")
    reading: AbstractContextManager[Connection] = reader.reading(engine)

    with pytest.raises(DBAPIError) as ended, reading as connection:
        connection.exec_driver_sql(STUCK)

    assert sqlstate(ended.value) == "57014"


def test_every_statement_of_the_api_that_reads_is_bounded(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "PATIENCE", "100ms")
    service = Service(settings)

    with pytest.raises(DBAPIError) as ended, service.engine.connect() as connection:
        connection.exec_driver_sql(STUCK)

    assert sqlstate(ended.value) == "57014"
    service.close()


def test_a_lookup_behind_a_lock_is_ended_and_reported(
    opened: Opener, scored: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "PATIENCE", "200ms")
    client = opened()
    assert client.get("/data/1").status_code == 200

    with scored.engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE predictions.flowers_job__flowers_v1")
        response = client.get("/data/1")

    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert "took too long" in response.json()["error"]


def test_a_session_of_the_control_plane_waits_ten_seconds_for_a_lock_at_most(engine: Engine) -> None:
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar_one() == LOCK_TIMEOUT == "10s"
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar_one() == "0"
