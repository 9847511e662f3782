"""Every due time has an end that people see: a run, a failed run that is tried again, or a record of why not."""

import logging
from datetime import timedelta
from typing import Any

import pytest

from scorebeat.core.errors import UsageError
from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.db.closing import run_totals
from scorebeat.db.ledger import jobs
from scorebeat.db.reports import status
from scorebeat.db.reports.pages import job_lines
from scorebeat.producer.control.control_round import run_once
from scorebeat.producer.control.plan import plan
from scorebeat.producer.control.ticks.tick import tick
from scorebeat.producer.requests.requeue import requeue
from tests.support.ledger_fixtures import FILL, Ledger, ledger, trained
from tests.support.ledger_rows import a_job
from tests.support.receiver import logged_events
from tests.support.scrape import of, samples

__all__ = ["ledger", "trained"]

YEARLY = "0 0 1 1 *"
"""Hardly due in the middle of a test."""
HOOK = "https://hooks.example.org/x"
BROKEN = {
    "a column was renamed": (
        "ALTER TABLE items RENAME COLUMN b TO width",
        "ALTER TABLE items RENAME COLUMN width TO b",
        'column "b" does not exist',
    ),
    "the table is gone": (
        "ALTER TABLE items RENAME TO moved",
        "ALTER TABLE moved RENAME TO items",
        'relation "items" does not exist',
    ),
    "a column is a text now": (
        "ALTER TABLE items ALTER b TYPE text",
        "ALTER TABLE items ALTER b TYPE float8 USING b::float8",
        "the query does not fit model flowers/1",
    ),
    "no version is published": (
        "UPDATE scorebeat.model_versions SET published_at = NULL",
        "UPDATE scorebeat.model_versions SET published_at = now()",
        "no version of model 'flowers' is published",
    ),
    "a function of the ledger is gone": (
        "ALTER FUNCTION scorebeat.show_as_it_comes RENAME TO gone",
        "ALTER FUNCTION scorebeat.gone RENAME TO show_as_it_comes",
        "function scorebeat.show_as_it_comes",
    ),
}


def due(ledger: Ledger, ago: str = "1 year", **options: Any) -> Job:
    """A job whose schedule has been due once, or more often, since `ago`, with rows to score."""
    ledger.sql(FILL.format(first=1, last=5))
    job = ledger.apply(a_job().model_copy(update={"schedule": YEARLY, "notify": HOOK, **options}))
    ledger.sql(f"UPDATE scorebeat.jobs SET last_due_at = now() - interval '{ago}'")
    return job


def lines(ledger: Ledger) -> list[tuple[int, str, str | None]]:
    return ledger.sql("SELECT id, state, reason FROM scorebeat.runs ORDER BY id")


def notices(ledger: Ledger) -> list[tuple[int, str]]:
    with ledger.engine.begin() as connection:
        run_totals.note(connection)
    return ledger.sql("SELECT run_id, event FROM scorebeat.notices ORDER BY id")


def try_now(ledger: Ledger) -> int:
    """The pause before another attempt is over."""
    ledger.sql("UPDATE scorebeat.runs SET retry_at = now() WHERE retry_at IS NOT NULL")
    return run_once(ledger.producer).begun_again


@pytest.mark.slow(quick=4)
@pytest.mark.parametrize("what", BROKEN)
def test_a_tick_that_cannot_begin_its_run_is_one_failed_run_until_it_can(
    ledger: Ledger, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    breaks, mends, message = BROKEN[what]
    job = due(ledger)
    ledger.sql(breaks)

    with caplog.at_level(logging.INFO, "scorebeat"):
        assert tick(ledger.producer, job.name) is None
    assert run_once(ledger.producer).begun_again == 0  # not at once
    for _ in range(2):
        assert try_now(ledger) == 0

    ((failed, state, reason),) = lines(ledger)
    assert state == "failed"
    assert message in str(reason)
    assert "tried again until the job is due again" in str(reason)
    assert notices(ledger) == [(failed, "failed")]
    with ledger.engine.connect() as connection:
        assert [(row["kind"], row["run"]) for row in status.failures(connection)] == [("failed run", failed)]
    assert [r.levelname for r in caplog.records if r.__dict__.get("scorebeat_event") == "run.failed"] == ["ERROR"]
    assert of(samples(ledger.engine), "runs_total", job=job.name, state="failed") == 1

    ledger.sql(mends)
    assert try_now(ledger) == 1

    _, (begun, _, _) = lines(ledger)
    assert ledger.sql("SELECT count(DISTINCT due_at) FROM scorebeat.runs") == [1]
    plan(ledger.producer, begun)
    ledger.score(begun)
    assert ledger.run(begun).state is RunState.SUCCEEDED
    assert try_now(ledger) == 0
    assert notices(ledger) == [(failed, "failed"), (begun, "finished")]


def test_a_job_without_a_model_fails_at_its_tick_and_requeue_names_the_next_step(ledger: Ledger) -> None:
    job = due(ledger, model="roses")

    assert tick(ledger.producer, job.name) is None

    ((failed, state, reason),) = lines(ledger)
    assert (state, "model 'roses' has no version yet" in str(reason)) == ("failed", True)
    with pytest.raises(UsageError, match=f"scorebeat enqueue {job.name}"):
        requeue(ledger.producer, failed, "ann")
    assert notices(ledger) == [(failed, "failed")]


@pytest.mark.slow(quick=2)
@pytest.mark.parametrize(
    "ends",
    [
        "UPDATE scorebeat.runs SET due_at = due_at - interval '2 years', deadline_at = NULL",
        "UPDATE scorebeat.jobs SET spec = jsonb_set(spec, '{deadline}', '\"1s\"')",
        "UPDATE scorebeat.jobs SET spec = spec - 'schedule'",
        "UPDATE scorebeat.jobs SET removed_at = now()",
    ],
)
def test_a_due_time_is_tried_again_only_while_it_has_time(ledger: Ledger, ends: str) -> None:
    job = due(ledger)
    breaks, mends, _ = BROKEN["a column was renamed"]
    ledger.sql(breaks)
    tick(ledger.producer, job.name)
    ledger.sql(mends)

    ledger.sql(ends)

    assert try_now(ledger) == 0
    assert len(lines(ledger)) == 1


def test_a_run_that_could_not_begin_is_not_tried_when_a_later_one_took_its_rows(ledger: Ledger) -> None:
    job = due(ledger)
    breaks, mends, _ = BROKEN["a column was renamed"]
    ledger.sql(breaks)
    tick(ledger.producer, job.name)
    ledger.sql(mends)

    ledger.scored(job)

    assert try_now(ledger) == 0
    assert len(lines(ledger)) == 2


def test_attempts_to_begin_a_run_come_less_and_less_often(ledger: Ledger) -> None:
    job = due(ledger)
    ledger.sql(BROKEN["a column was renamed"][0])
    tick(ledger.producer, job.name)

    pauses = []
    for age in ("0 s", "100 s", "1 day"):
        ledger.sql(f"UPDATE scorebeat.runs SET created_at = now() - interval '{age}'")
        try_now(ledger)
        pauses += ledger.sql("SELECT extract(epoch FROM retry_at - now())::float8 FROM scorebeat.runs")

    assert pauses == pytest.approx([10, 50, 600], abs=5)


def test_a_due_time_past_its_deadline_is_a_failed_run_reported_and_counted(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    job = due(ledger, ago="3 years", deadline=timedelta(seconds=1))

    with caplog.at_level(logging.INFO, "scorebeat"):
        assert run_once(ledger.producer).made_up == 0
        assert run_once(ledger.producer).made_up == 0

    ((missed, state, reason),) = lines(ledger)
    assert state == "failed"
    assert str(reason).startswith("missed: 3 due times, from ")
    assert f"`scorebeat enqueue {job.name}`" in str(reason)
    assert notices(ledger) == [(missed, "late")]
    (event,) = logged_events(caplog, "tick.missed")
    assert event["moments"] == 3
    assert try_now(ledger) == 0
    assert of(samples(ledger.engine), "ticks_missed_total", job=job.name) == 3


def test_missed_due_times_without_a_deadline_are_made_up_once_and_others_counted(ledger: Ledger) -> None:
    job = due(ledger, ago="3 years")

    assert run_once(ledger.producer).made_up == 1

    assert [state for _, state, _ in lines(ledger)] == ["planning"]
    ((details,),) = [ledger.sql("SELECT details FROM scorebeat.actions WHERE action = 'tick.missed'")]
    assert details["moments"] == 2
    assert of(samples(ledger.engine), "ticks_missed_total", job=job.name) == 2


def test_a_job_that_is_due_each_second_misses_nothing_while_ticks_are_late(ledger: Ledger) -> None:
    job = due(ledger, ago="2 seconds", schedule="every 1 second")

    assert tick(ledger.producer, job.name) is not None

    assert ledger.sql("SELECT count(*) FROM scorebeat.actions WHERE action = 'tick.missed'") == [0]


def test_a_skipped_due_time_is_shown_with_the_job_and_counted_by_reason(ledger: Ledger) -> None:
    job = due(ledger)
    with ledger.engine.begin() as connection:
        jobs.pause(connection, job.name, "ann", "the table is being rebuilt")

    assert tick(ledger.producer, job.name) is None

    with ledger.engine.connect() as connection:
        (line,) = job_lines.listing(connection)
    assert line.last_skip_reason == "paused by ann: the table is being rebuilt"
    assert line.last_skip_at is not None
    assert line.last_skip_at < line.next_due_at  # type: ignore[operator]  # it has a schedule
    assert of(samples(ledger.engine), "ticks_skipped_total", job=job.name, reason="paused") == 1
    assert of(samples(ledger.engine), "ticks_skipped_total", job=job.name, reason="busy") == 0
    assert lines(ledger) == []


def test_a_lock_that_holds_up_a_first_run_for_a_minute_makes_a_failed_run(ledger: Ledger) -> None:
    job = due(ledger)
    with ledger.engine.connect() as other:
        other.exec_driver_sql("LOCK TABLE items")

        assert tick(ledger.producer, job.name) is None

        ((_, state, reason),) = lines(ledger)
        assert state == "failed"
        assert "items" in str(reason)
    assert try_now(ledger) == 1


def test_results_are_overdue_until_a_run_left_no_row_out(ledger: Ledger) -> None:
    job = due(ledger)
    ledger.sql("UPDATE scorebeat.jobs SET applied_at = now() - interval '3 years'")

    assert of(samples(ledger.engine), "results_overdue_seconds", job=job.name) > 300 * 86_400
    ledger.scored(job.model_copy(update={"schedule": "every 1 day"}))
    assert of(samples(ledger.engine), "results_overdue_seconds", job=job.name) == 0

    ledger.sql("UPDATE scorebeat.runs SET finished_at = now() - interval '10 days'")
    ledger.sql("UPDATE scorebeat.jobs SET applied_at = now() - interval '3 years'")
    overdue = of(samples(ledger.engine), "results_overdue_seconds", job=job.name)
    assert 8 * 86_400 <= overdue <= 9 * 86_400
    for state, reason, is_complete in (("partial", None, True), ("partial", "2 batches are dead", False)):
        ledger.sql(
            "UPDATE scorebeat.runs SET state = :state, reason = :reason, finished_at = now()",
            state=state,
            reason=reason,
        )
        assert (of(samples(ledger.engine), "results_overdue_seconds", job=job.name) == 0) == is_complete
