"""A job that is resumed, comes back or gets another schedule is due from its next due time on, not for those before."""

from collections.abc import Callable

import pytest

from scorebeat.core.jobs.job import Job
from scorebeat.db.ledger import jobs
from scorebeat.producer.control.control_round import run_once
from scorebeat.producer.control.ticks.tick import tick
from tests.support.ledger_fixtures import FILL, Ledger, ledger, trained
from tests.support.ledger_rows import a_job

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
        assert jobs.apply(connection, [], "ann").removed == [job.name]
        assert jobs.apply(connection, [job], "ann").added == [job.name]


def moved(ledger: Ledger, job: Job) -> None:
    ledger.apply(job.model_copy(update={"schedule": "0 0 2 1 *"}))


def moved_to_another_zone(ledger: Ledger, job: Job) -> None:
    ledger.apply(job.model_copy(update={"timezone": "Asia/Tokyo"}))


def got_its_first_schedule(ledger: Ledger, job: Job) -> None:
    ledger.apply(job.model_copy(update={"schedule": None}))
    ledger.sql(LONG_AGO)
    ledger.apply(job)


@pytest.mark.parametrize("again", [resumed, came_back, moved, moved_to_another_zone, got_its_first_schedule])
def test_a_job_that_begins_again_makes_up_no_tick_of_before(
    ledger: Ledger, due: Job, again: Callable[[Ledger, Job], None]
) -> None:
    again(ledger, due)

    assert tick(ledger.producer, due.name) is None
    assert run_once(ledger.producer).made_up == 0
    assert ledger.sql("SELECT count(*) FROM scorebeat.runs") == [0]


def test_a_job_that_is_changed_still_makes_up_its_last_tick(ledger: Ledger, due: Job) -> None:
    ledger.apply(due.model_copy(update={"batch_rows": 7}))

    assert tick(ledger.producer, due.name) is not None


def test_a_due_time_that_is_lost_with_its_schedule_is_recorded(ledger: Ledger, due: Job) -> None:
    moved(ledger, due)
    moved(ledger, due)

    ((details,),) = [ledger.sql("SELECT details FROM scorebeat.actions WHERE action = 'tick.missed'")]
    assert "the schedule was changed before the due time" in details["reason"]


def test_a_schedule_that_is_only_written_otherwise_still_makes_up_its_last_tick(ledger: Ledger, due: Job) -> None:
    ledger.apply(due.model_copy(update={"schedule": f" {YEARLY}  "}))

    assert tick(ledger.producer, due.name) is not None


def test_a_paused_job_that_comes_back_is_as_new(ledger: Ledger, due: Job) -> None:
    with ledger.engine.begin() as connection:
        jobs.pause(connection, due.name, "ann", "the source is being repaired")
    came_back(ledger, due)

    with ledger.engine.connect() as connection:
        assert jobs.get(connection, due.name).paused_at is None


def test_a_paused_job_that_is_changed_stays_paused(ledger: Ledger, due: Job) -> None:
    with ledger.engine.begin() as connection:
        jobs.pause(connection, due.name, "ann", "the source is being repaired")
    moved(ledger, due)

    with ledger.engine.connect() as connection:
        assert jobs.get(connection, due.name).paused_by == "ann"
