"""A job that is resumed, or comes back to jobs.toml, is due from its next moment on: what was before is not made up."""

from collections.abc import Callable

import pytest

from scorebeat.core.jobs import Job
from scorebeat.db import jobs
from scorebeat.producer.control import run_once
from scorebeat.producer.tick import tick
from tests.ledger_fixtures import FILL, Ledger, ledger, trained
from tests.ledger_rows import a_job

__all__ = ["ledger", "trained"]

YEARLY = "0 0 1 1 *"
"""Hardly due in the middle of a test."""
LONG_AGO = "UPDATE scorebeat.jobs SET last_due_at = now() - interval '3 years'"


@pytest.fixture
def due(ledger: Ledger) -> Job:
    """Its last three ticks went by unanswered."""
    ledger.sql(FILL.format(first=1, last=5))
    job = ledger.apply(a_job().model_copy(update={"schedule": YEARLY}))
    ledger.sql(LONG_AGO)
    return job


def resumed(ledger: Ledger, job: Job) -> None:
    with ledger.engine.begin() as connection:
        assert jobs.pause(connection, job.name, "ann", "the source is being repaired")
        assert jobs.resume(connection, job.name, "ann")


def came_back(ledger: Ledger, job: Job) -> None:
    with ledger.engine.begin() as connection:
        assert jobs.apply(connection, [], "ann")["removed"] == [job.name]
        assert jobs.apply(connection, [job], "ann")["added"] == [job.name]


@pytest.mark.parametrize("again", [resumed, came_back])
def test_a_job_that_begins_again_makes_up_no_tick_of_before(
    ledger: Ledger, due: Job, again: Callable[[Ledger, Job], None]
) -> None:
    again(ledger, due)

    assert tick(ledger.producer, due.name) is None
    assert run_once(ledger.producer).made_up == 0


def test_a_job_that_is_changed_still_makes_up_its_last_tick(ledger: Ledger, due: Job) -> None:
    ledger.apply(due.model_copy(update={"batch_rows": 7}))

    assert tick(ledger.producer, due.name) is not None
