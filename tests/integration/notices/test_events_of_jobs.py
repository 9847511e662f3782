"""A job chooses its notices; results that are not there at the time of day are reported whatever the cause."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from scorebeat.core.jobs.job import Job
from scorebeat.db.closing import run_totals
from scorebeat.db.ledger import jobs, runs
from scorebeat.db.records import notices
from scorebeat.producer.control import control_round
from scorebeat.producer.control.notices import notify
from scorebeat.producer.control.notices.webhooks import Post
from scorebeat.producer.control.ticks.overdue import note_overdue
from tests.support.ledger_fixtures import FILL, Ledger, ledger, trained
from tests.support.ledger_rows import a_job
from tests.support.receiver import logged_events
from tests.support.scrape import of, samples

pytestmark = pytest.mark.wide

__all__ = ["ledger", "trained"]

HOOK = "https://hooks.example.org/x"


def a_notified_job(ledger: Ledger, **options: Any) -> Job:
    ledger.sql(FILL.format(first=1, last=5))
    return ledger.apply(a_job().model_copy(update={"notify": HOOK, "schedule": "0 2 * * *", **options}))


def events(ledger: Ledger) -> list[str]:
    with ledger.engine.begin() as connection:
        run_totals.note(connection)
        run_totals.note_late(connection)
    return ledger.sql("SELECT event FROM scorebeat.notices ORDER BY id")


@contextmanager
def caught() -> Iterator[list[Post]]:
    """The posts of the block, which reach nobody."""
    posts: list[Post] = []

    def post(made: list[Post], _: object) -> list[None]:
        posts.extend(made)
        return [None] * len(made)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notify, "post_all", post)
        yield posts


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (("finished", "failed", "late"), ["finished", "late"]),
        (("failed",), ["failed"]),
        (("late",), ["late"]),
        (("empty",), ["finished"]),
        (("finished", "empty"), ["finished", "finished"]),
    ],
)
def test_an_address_gets_the_events_that_its_job_chose(
    ledger: Ledger, chosen: tuple[str, ...], expected: list[str]
) -> None:
    job = a_notified_job(ledger, notify_on=chosen)
    ledger.scored(job)
    empty = ledger.planned(job)
    ledger.sql("UPDATE scorebeat.runs SET due_at = now(), created_by = 'beat' WHERE id = :id", id=empty)
    failed = ledger.enqueue(job)
    ledger.sql(
        "UPDATE scorebeat.runs SET state = 'failed', reason = 'oh', plan_expires_at = NULL, finished_at = now(),"
        " deadline_at = now() - interval '1 s' WHERE id = :id",
        id=failed,
    )

    assert sorted(events(ledger)) == sorted(expected)


def test_a_job_that_chooses_nothing_is_stored_as_older_programs_read_it(ledger: Ledger) -> None:
    a_notified_job(ledger)

    (spec,) = ledger.sql("SELECT spec FROM scorebeat.jobs")
    assert not {"notify_on", "results_by"} & set(spec)


def test_a_post_has_a_text_that_describes_its_event(ledger: Ledger) -> None:
    job = a_notified_job(ledger)
    run = ledger.scored(job)
    events(ledger)
    with ledger.engine.begin() as connection:
        (notice,) = notices.take_due(connection, 5)
        status = notices.run_status(connection, run)

    assert json.loads(notify.body(notice, status))["text"] == f"job {job.name}, run {run}, succeeded: 5 rows scored"


def test_a_late_run_is_reported_with_what_it_waits_for(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    job = a_notified_job(ledger)
    run = ledger.planned(job)
    ledger.sql(
        "INSERT INTO scorebeat.workers (name, queues, processes) VALUES ('control@h/1', '[\"control\", \"plan\"]', 1)"
    )
    ledger.sql("UPDATE scorebeat.runs SET deadline_at = now() - interval '1 s'")

    with caplog.at_level(logging.INFO, "scorebeat"), caught() as posts:
        notify.note_ends(ledger.producer)
        assert notify.notify_once(ledger.producer) == 1

    waits = "no worker listens on queue 'cpu': start `scorebeat worker --device cpu --queue cpu`"
    body = json.loads(posts[0].content)
    assert body["text"].endswith(f"; {waits}")
    assert body["notes"] == [waits]
    assert logged_events(caplog, "run.late") == [{"run": run, "job": job.name, "reason": waits}]


def late_job(ledger: Ledger) -> Job:
    """Its results were needed by a time of day that passed since it was applied."""
    job = a_notified_job(ledger, results_by="07:00", timezone="Europe/Berlin")
    ledger.sql("UPDATE scorebeat.jobs SET applied_at = now() - interval '2 days'")
    return job


@pytest.mark.quick
def test_results_that_are_not_there_in_time_are_reported_once(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    job = late_job(ledger)
    run = ledger.enqueue(job)
    ledger.sql("UPDATE scorebeat.jobs SET applied_at = now() - interval '2 days'")

    with caplog.at_level(logging.INFO, "scorebeat"):
        assert [note_overdue(ledger.producer) for _ in range(3)] == [1, 0, 0]

    assert ledger.sql("SELECT run_id, event FROM scorebeat.notices") == [(run, "late")]
    (event,) = logged_events(caplog, "results.overdue")
    assert f"run {run} is still open" in event["reason"]
    assert of(samples(ledger.engine), "results_overdue_seconds", job=job.name) > 0
    (at,) = ledger.sql("SELECT happened_at FROM scorebeat.notices")
    assert (at.astimezone(UTC).hour, at.minute) in ((5, 0), (6, 0))  # 07:00 in Berlin
    assert at < datetime.now(UTC)


def test_a_paused_job_that_never_ran_is_a_failed_run_when_its_results_are_not_there(ledger: Ledger) -> None:
    job = late_job(ledger)
    with ledger.engine.begin() as connection:
        jobs.pause(connection, job.name, "ann", "the table is being rebuilt")

    assert note_overdue(ledger.producer) == 1

    ((state, reason),) = ledger.sql("SELECT state, reason FROM scorebeat.runs")
    assert state == "failed"
    assert "paused by ann: the table is being rebuilt" in reason
    assert events(ledger) == ["late"]


@pytest.mark.parametrize("chosen", ["failed", "late", None])
@pytest.mark.parametrize("options", [{"results_by": "07:00"}, {"results_by": "07:00", "deadline": "1 h"}], ids=str)
def test_a_night_that_never_began_is_one_post_that_reports_failed_and_late(
    ledger: Ledger, options: dict[str, str], chosen: str | None
) -> None:
    job = a_notified_job(
        ledger, **Job.model_validate({**a_job().model_dump(), **options}).model_dump(include={*options})
    )
    if chosen is not None:
        job = ledger.apply(job.model_copy(update={"notify_on": (chosen,)}))
    ledger.sql(
        "UPDATE scorebeat.jobs SET applied_at = now() - interval '2 days', last_due_at = now() - interval '2 days'"
    )
    if "deadline" not in options:
        with ledger.engine.begin() as connection:
            jobs.pause(connection, job.name, "ann", "the table is being rebuilt")
    with caught() as posts:
        for _ in range(3):
            control_round.run_once(ledger.producer)
            notify.notify_once(ledger.producer)

    (body,) = [json.loads(one.content) for one in posts]
    assert body["event"] == (chosen or "late")
    assert (body["run"] if "run" in body else body["id"], body["state"]) == (1, "failed")
    assert "failed" in body["text"]
    assert body["text"].count("no complete results by") <= 1
    if chosen != "failed":
        assert "is late: results were needed by" in body["text"]


def test_a_run_that_is_reported_as_late_and_then_fails_is_reported_again(ledger: Ledger) -> None:
    job = late_job(ledger)
    run = ledger.enqueue(job)
    ledger.sql("UPDATE scorebeat.jobs SET applied_at = now() - interval '2 days'")
    assert note_overdue(ledger.producer) == 1

    with ledger.engine.begin() as connection:
        runs.fail(connection, run, "the disk is full")

    assert events(ledger) == ["late", "failed"]


def test_results_in_time_are_not_reported_but_a_partial_run_that_left_rows_out_is(ledger: Ledger) -> None:
    job = late_job(ledger)
    ledger.scored(job)
    ledger.sql("UPDATE scorebeat.jobs SET applied_at = now() - interval '2 days'")

    assert note_overdue(ledger.producer) == 0
    ledger.sql("UPDATE scorebeat.runs SET state = 'partial', reason = '2 of 5 batches are dead'")
    assert note_overdue(ledger.producer) == 1


@pytest.mark.parametrize("has_run", [False, True], ids=["it never ran", "it ran before"])
def test_late_results_of_a_paused_job_are_reported_with_the_pause_and_the_command(
    ledger: Ledger, has_run: bool
) -> None:
    job = a_notified_job(ledger, results_by="07:00", notify_on=("late",))
    if has_run:
        run = ledger.scored(job)
        ledger.sql("UPDATE scorebeat.runs SET finished_at = now() - interval '2 days' WHERE id = :id", id=run)
        events(ledger)
    ledger.sql("UPDATE scorebeat.jobs SET applied_at = now() - interval '2 days'")
    with ledger.engine.begin() as connection:
        jobs.pause(connection, job.name, "ann", "the table is being rebuilt")
    with caught() as posts:
        assert note_overdue(ledger.producer) == 1
        notify.note_ends(ledger.producer)
        assert notify.notify_once(ledger.producer) == 1

    (body,) = [json.loads(one.content) for one in posts]
    assert body["event"] == "late"
    assert "the job is paused by ann: the table is being rebuilt (`scorebeat resume" in body["text"]
    assert "the job is paused by ann" in body["notes"][0]


def test_a_job_without_results_by_has_no_late_results(ledger: Ledger) -> None:
    a_notified_job(ledger)
    ledger.sql("UPDATE scorebeat.jobs SET applied_at = now() - interval '9 days'")

    assert note_overdue(ledger.producer) == 0
