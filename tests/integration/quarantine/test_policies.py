"""A job's policy on failures: its runs are shown whole or not at all, or failed rows are left for the next."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import text

from scorebeat.core.errors import ClaimLost
from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.db.batch_io import columns
from scorebeat.db.batch_io.columns import Part
from scorebeat.db.closing import close_run
from scorebeat.db.ledger import batches
from scorebeat.db.predictions import prediction_sets, table_types
from scorebeat.producer.control.upkeep.settle import settle
from scorebeat.producer.requests.apply import apply
from scorebeat.producer.requests.requeue import cancel, requeue
from tests.support.poison_fixtures import Points, assert_accounted, points
from tests.support.receiver import logged_events

pytestmark = pytest.mark.wide

__all__ = ["points"]

TABLE = "SELECT count(*) FROM predictions.points_job__poison_v1"


@contextmanager
def reader(points: Points) -> Iterator[list[int]]:
    """Somebody who counts the rows of the view all the time; the counts, each change once."""
    seen: list[int] = []
    stop = threading.Event()

    def read() -> None:
        with points.engine.connect() as connection:
            is_last = False
            while not is_last:
                is_last = stop.is_set()  # looked at before the count, so that the end is seen
                count = connection.execute(text("SELECT count(*) FROM predictions.points_job")).scalar_one()
                connection.rollback()
                if seen[-1:] != [count]:
                    seen.append(count)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def whole(points: Points) -> Job:
    """A job whose runs are shown whole; 100 rows of it are scored and shown, the next 60 have a bad one."""
    points.fill(100)
    points.model({"raise": [150]})
    job = points.job(on_failure="retry-run", batch_rows=20)
    assert points.run(points.scored(job)).state is RunState.SUCCEEDED
    points.sql("INSERT INTO points SELECT i, i + 0.5 FROM generate_series(101, 160) i")
    return job


@pytest.mark.quick
def test_a_reader_sees_none_or_all_of_a_run_that_fails_and_is_tried_again(points: Points, whole: Job) -> None:
    with reader(points) as seen:
        run = points.planned(whole)
        stored = []
        for batch_id in points.pending(run):
            points.attempt(batch_id)
            stored += points.sql(TABLE)
        begun = points.run(run)
        stored += points.sql(TABLE)
        points.mend()
        state = points.work(run)

    assert stored[:2] == [120, 140]
    assert stored[-1] == 100
    assert (begun.state, begun.tries) == (RunState.RUNNING, 2)
    assert state is RunState.SUCCEEDED
    assert seen == [100, 160]
    assert_accounted(points.engine, whole, {})


def test_nothing_of_a_first_run_is_seen_before_it_has_succeeded(points: Points) -> None:
    points.fill(60)
    points.model({})
    job = points.job(on_failure="retry-run", batch_rows=20)
    with reader(points) as seen:
        run = points.planned(job)
        counts: list[int] = []
        for batch_id in points.pending(run):
            counts.append(len(points.view(job)))
            points.attempt(batch_id)
        points.work(run)

    assert counts == [0, 0, 0]
    assert seen == [0, 60]
    assert_accounted(points.engine, job, {})


def test_a_run_that_fails_to_the_last_try_leaves_only_why_and_can_be_requeued(points: Points, whole: Job) -> None:
    with reader(points) as seen:
        run = points.planned(whole)
        state = points.work(run)
        left = (*points.sql(TABLE), points.quarantined(whole))
        reason = str(points.run(run).reason)
        points.mend()
        requeue(points.producer, run, "ann")
        again = points.work(run)

    assert (state, again) == (RunState.FAILED, RunState.SUCCEEDED)
    assert "in the last of 3 tries; nothing of the run is shown" in reason
    assert "does not like a row" in reason
    assert left == (100, ["150"])
    assert seen == [100, 160]
    assert_accounted(points.engine, whole, {})


def test_a_dead_batch_makes_the_whole_run_begin_again(points: Points, whole: Job) -> None:
    run = points.planned(whole)
    points.sql(
        "UPDATE scorebeat.batches SET state = 'dead', attempts_left = 0, finished_at = now(), sent_at = NULL,"
        " error = 'Broken: oh' WHERE run_id = :run AND number = 1",
        run=run,
    )
    points.mend()
    before = points.batches(run, "attempt")

    assert points.work(run) is RunState.SUCCEEDED

    assert points.run(run).tries == 2
    assert all(now > then for now, then in zip(points.batches(run, "attempt"), before, strict=True))
    assert_accounted(points.engine, whole, {})


def test_a_whole_run_that_begins_again_has_the_budget_of_the_settings(
    points: Points, whole: Job, caplog: pytest.LogCaptureFixture
) -> None:
    run = points.planned(whole)
    points.sql(
        "UPDATE scorebeat.batches SET state = 'dead', attempts_left = 0, finished_at = now(), sent_at = NULL,"
        " error = 'Broken: oh' WHERE run_id = :run",
        run=run,
    )

    with points.engine.connect() as connection, caplog.at_level(logging.INFO, "scorebeat"):
        begun = close_run.settle(connection, run, 2)
        before_the_commit = logged_events(caplog, "run.begun_again")
        connection.commit()
        assert isinstance(begun, close_run.BegunAgain)
        begun.log()

    assert set(points.batches(run, "attempts_left")) == {2}
    assert before_the_commit == []
    assert [event["tries"] for event in logged_events(caplog, "run.begun_again")] == [2]


def test_a_late_worker_of_an_earlier_try_writes_nothing(points: Points, whole: Job) -> None:
    run = points.planned(whole)
    first = points.pending(run)[0]
    with points.engine.begin() as connection:
        held = batches.claim(connection, first, "slow", timedelta(0))
        batches.rescue(connection)
        target = prediction_sets.get(connection, points.run(run).prediction_set_id)
    points.mend()
    assert held is not None
    points.work(run)
    points.sql("UPDATE scorebeat.batches SET state = 'dead', error = 'Broken: oh' WHERE id = :id", id=first)
    points.sql("UPDATE scorebeat.runs SET state = 'running', finished_at = NULL WHERE id = :id", id=run)
    assert settle(points.producer, run) is None  # a second try

    empty = table_types.table_types(points.runtime.data, target).schema.empty_table()
    with pytest.raises(ClaimLost, match="attempt 1"):
        columns.commit(points.runtime.data, held, target, Part(empty), None)

    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, whole, {})


def test_another_policy_shows_what_is_stored(points: Points, whole: Job) -> None:
    run = points.planned(whole)
    points.attempt(points.pending(run)[0])
    cancel(points.producer, run, "ann")
    hidden = len(points.view(whole))
    points.mend()
    apply(points.producer, [whole.model_copy(update={"on_failure": "retry-rows"})], "test")

    following = points.planned(whole)

    assert hidden == 100
    assert len(points.view(whole)) == 120
    points.attempt(points.pending(following)[0])
    assert len(points.view(whole)) == 140
    points.work(following)
    assert_accounted(points.engine, whole, {})


def test_the_rows_left_by_a_cancelled_run_are_shown_with_the_next_whole_run(points: Points, whole: Job) -> None:
    run = points.planned(whole)
    points.attempt(points.pending(run)[0])
    cancel(points.producer, run, "ann")
    points.sql("DELETE FROM points WHERE id > 120")

    following = points.scored(whole)

    assert points.batches(following) == []
    assert len(points.view(whole)) == 120
    assert_accounted(points.engine, whole, {})


def test_a_whole_run_of_all_rows_is_shown_as_a_generation_when_it_succeeds(points: Points) -> None:
    points.fill(60)
    points.model({})
    job = points.job(on_failure="retry-run", rescore="every-run", batch_rows=20)

    with reader(points) as seen:
        points.scored(job)
        points.sql("DELETE FROM points WHERE id > 50")
        points.scored(job)

    assert seen == [0, 60, 50]


def test_leave_allows_a_batch_one_attempt_and_leaves_its_rows_for_the_next_run(points: Points) -> None:
    points.fill(100)
    points.model({"raise": range(1, 26)})
    job = points.job(on_failure="leave", batch_rows=25)

    run = points.scored(job)

    assert points.batches(run) == [("dead", 1), *[("committed", 1)] * 3]
    assert points.run(run).state is RunState.PARTIAL
    assert points.quarantined(job) == []
    points.mend()
    following = points.scored(job)
    assert points.batches(following, "rows_scored") == [25]
    assert_accounted(points.engine, job, {})


def test_leave_allows_a_batch_one_attempt_though_it_dies(points: Points) -> None:
    points.fill(100)
    points.model({})
    job = points.job(on_failure="leave", batch_rows=25)
    run = points.planned(job)
    with points.engine.begin() as connection:
        batches.claim(connection, points.pending(run)[0], "gone", timedelta(0))
        batches.rescue(connection)

    assert points.work(run) is RunState.PARTIAL

    assert points.batches(run) == [("dead", 1), *[("committed", 1)] * 3]
    points.scored(job)
    assert_accounted(points.engine, job, {})


def test_settling_twice_begins_a_whole_run_again_once(points: Points, whole: Job) -> None:
    run = points.planned(whole)
    for batch_id in points.pending(run):
        points.attempt(batch_id)

    assert [settle(points.producer, run) for _ in range(3)] == [None] * 3

    assert points.run(run).tries == 2
