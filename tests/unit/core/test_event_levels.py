"""A final failure is logged as ERROR, one that may pass by itself as WARNING, and the rest as INFO."""

import logging
from typing import Any

import pytest

from scorebeat.core import event_levels
from scorebeat.core.events import emit
from tests.unit.core.test_event_names import emitted

LEVELS = [
    ("batch.failed", {"state": "dead"}, "ERROR"),
    ("batch.failed", {"state": "pending"}, "WARNING"),
    ("batch.rescued", {"state": "dead"}, "ERROR"),
    ("process.died", {"state": "pending"}, "WARNING"),
    ("run.failed", {}, "ERROR"),
    ("run.finished", {"state": "failed"}, "ERROR"),
    ("run.finished", {"state": "partial"}, "WARNING"),
    ("run.finished", {"state": "succeeded"}, "INFO"),
    ("run.late", {}, "WARNING"),
    ("job.paused", {}, "ERROR"),
    ("tick.skipped", {}, "WARNING"),
    ("tick.missed", {}, "WARNING"),
    ("rows.quarantined", {}, "WARNING"),
    ("notice.failed", {"given_up": True}, "ERROR"),
    ("notice.failed", {"given_up": False}, "WARNING"),
    ("broker.away", {}, "WARNING"),
    ("batch.committed", {}, "INFO"),
]


@pytest.mark.parametrize(("event", "fields", "level"), LEVELS)
def test_an_event_is_as_loud_as_what_it_means(
    event: str, fields: dict[str, Any], level: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "scorebeat"):
        emit(event, **fields)

    assert [record.levelname for record in caplog.records] == [level]


def test_a_level_that_a_call_names_is_its_level(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "scorebeat"):
        emit("run.failed", logging.DEBUG)

    assert [record.levelname for record in caplog.records] == ["DEBUG"]


def test_every_event_that_has_a_level_of_its_own_is_one_that_the_program_reports() -> None:
    assert set() < event_levels._ERRORS | event_levels._WARNINGS <= {name for name, _ in emitted()}


def test_no_event_that_is_called_a_failure_is_logged_as_news() -> None:
    """Those whose calls name a level themselves have that level."""
    loud = {name for name, _ in emitted() if name.rpartition(".")[2] in ("failed", "away", "lost", "died", "missed")}
    quiet = {name for name in loud if event_levels.level_of(name, {"state": "pending"}) == logging.INFO}

    assert quiet == set()
