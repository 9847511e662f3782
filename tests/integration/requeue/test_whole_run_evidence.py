"""A whole run that failed shows its reason by the rows that it quarantined, until those rows are tried again."""

import pytest

from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.db.ledger.failures import failure_groups
from scorebeat.db.reports import results
from scorebeat.db.reports.pages import data_pages
from scorebeat.db.reports.pages.data_pages import Form
from scorebeat.producer.requests.preview import preview
from scorebeat.producer.requests.requeue import requeue
from tests.integration.requeue.test_requeue import kill_batches
from tests.integration.requeue.test_whole_runs import cut_short
from tests.support.cli_fixtures import Cli, scorebeat
from tests.support.poison_fixtures import Points, assert_accounted, points

pytestmark = pytest.mark.wide

__all__ = ["points", "scorebeat"]

ALL = 60
BATCH = 20
BAD = ["3", "50"]


def failing(points: Points, **options: object) -> tuple[Job, int]:
    """A whole run of 60 rows that failed for good by two of them."""
    points.fill(ALL)
    points.model({"raise": [3], "nan": [50]})
    job = points.job(batch_rows=BATCH, on_failure="retry-run", run_attempts=2, **options)
    run = points.scored(job)
    assert points.run(run).state is RunState.FAILED
    return job, run


def stored(points: Points) -> list[int]:
    return points.sql("SELECT count(*) FROM predictions.points_job__poison_v1")


def unpredicted(points: Points, job: Job) -> int:
    with points.engine.connect() as connection:
        shown = results.shape(connection, job.name)
        return len(data_pages.unpredicted(connection, shown, None, 100, Form.JSON).rows)


@pytest.mark.quick
def test_a_whole_run_that_failed_for_good_shows_its_reason_though_it_keeps_nothing(
    points: Points, scorebeat: Cli
) -> None:
    job, run = failing(points)

    result = scorebeat("failures", str(run))

    assert "ValueError: the model does not like a row" in result.output
    assert "NonsenseError" in result.output
    assert stored(points) == [0]
    assert (points.view(job), points.quarantined(job)) == ({}, BAD)
    with points.engine.connect() as connection:
        groups = failure_groups.page(connection, run)
    assert {group.example for group in groups} == {"key 3", "key 50"}
    assert all(group.traceback for group in groups if group.error.startswith("ValueError"))


def test_quarantined_rows_of_a_failed_whole_run_are_pending(points: Points) -> None:
    job, _ = failing(points)

    assert preview(points.producer, job.name).rows == ALL
    assert unpredicted(points, job) == ALL


@pytest.mark.slow(quick=2)
@pytest.mark.parametrize("policy", ["retry-run", "retry-rows"])
def test_the_next_run_takes_the_quarantined_rows_of_a_failed_whole_run(points: Points, policy: str) -> None:
    _, failed = failing(points)
    points.mend()
    job = points.job(batch_rows=BATCH, on_failure=policy)

    run = points.planned(job)

    assert points.quarantined(job) == []
    assert sum(points.batches(run, "rows_planned")) == ALL
    assert points.work(run) is RunState.SUCCEEDED
    assert len(points.view(job)) == ALL
    assert_accounted(points.engine, job, {})
    assert points.run(failed).state is RunState.FAILED


def test_a_failed_whole_run_is_requeued_with_its_quarantined_rows(points: Points) -> None:
    job, run = failing(points)

    requeue(points.producer, run, "ann")
    assert points.quarantined(job) == []
    assert points.work(run) is RunState.FAILED
    assert points.quarantined(job) == BAD
    points.mend()
    requeue(points.producer, run, "ann")

    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_an_older_failed_whole_run_is_requeued_with_rows_that_a_newer_quarantined(points: Points) -> None:
    job, older = failing(points)
    points.scored(job)
    points.mend()

    requeue(points.producer, older, "ann")

    assert points.work(older) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_a_run_of_another_policy_is_requeued_with_rows_of_a_failed_whole_run(points: Points) -> None:
    points.fill(ALL)
    points.model({"raise": [3]})
    older = kill_batches(points, points.job(batch_rows=BATCH), 1)
    job = points.job(batch_rows=BATCH, on_failure="retry-run", run_attempts=1)
    points.scored(job)
    assert points.quarantined(job) == ["3"]
    points.mend()

    requeue(points.producer, older, "ann")

    assert points.work(older) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_a_whole_run_whose_plan_was_cut_short_shows_why_rows_failed(points: Points) -> None:
    points.fill(ALL)
    points.model({"raise": [3]})
    job = points.job(batch_rows=BATCH, on_failure="retry-run")
    run = cut_short(points, job)

    assert points.work(run) is RunState.FAILED

    assert points.quarantined(job) == ["3"]
    assert stored(points) == [0]


def test_rows_quarantined_by_other_runs_stay_after_a_failed_whole_runs_successor(points: Points) -> None:
    points.fill(ALL)
    points.model({"raise": [3]})
    points.scored(points.job(batch_rows=BATCH))
    points.sql("INSERT INTO points VALUES (100, 100.5)")
    points.harm({"raise": [100.5]})
    job = points.job(batch_rows=BATCH, on_failure="retry-run", run_attempts=1)
    points.scored(job)
    assert points.quarantined(job) == ["3", "100"]
    assert preview(points.producer, job.name).rows == 1
    points.mend()

    points.scored(job)

    assert_accounted(points.engine, job, {3: "ValueError"})


def test_a_whole_run_that_failed_counts_none_of_the_rows_that_it_did_not_keep(points: Points) -> None:
    job, run = failing(points)

    assert (stored(points), points.batches(run, "rows_scored, rows_failed")) == ([0], [(0, 1), (0, 0), (0, 1)])

    points.mend()
    requeue(points.producer, run, "ann")
    assert points.work(run) is RunState.SUCCEEDED
    assert points.batches(run, "rows_scored, rows_failed") == [(BATCH, 0)] * 3
    assert len(points.view(job)) == ALL


def test_a_failed_run_of_a_job_shown_as_it_comes_counts_what_readers_keep(points: Points) -> None:
    points.fill(ALL)
    points.model({"raise": [50]})
    run = points.planned(points.job(batch_rows=BATCH, on_failure="retry-run", run_attempts=1))
    points.attempt(points.pending(run)[0])
    points.sql("UPDATE scorebeat.prediction_sets SET visible_below = NULL")

    assert points.work(run) is RunState.FAILED

    assert points.batches(run, "rows_scored") == [BATCH, BATCH, BATCH - 1]
    assert stored(points) == [ALL - 1]
