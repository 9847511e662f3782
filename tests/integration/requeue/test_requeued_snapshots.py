"""What a run with a snapshot left out is scored from its snapshot, as long as that is kept."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from scorebeat.core.errors import SnapshotLost, UsageError
from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.db.ledger.runs import Selection
from scorebeat.producer import retention
from scorebeat.producer.control.plan import plan
from scorebeat.producer.control.upkeep import snapshots
from scorebeat.producer.requests import change_job
from scorebeat.producer.requests.apply import remove_all
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.producer.requests.requeue import requeue
from tests.support.poison_fixtures import Points, assert_accounted, points

pytestmark = pytest.mark.wide(slow=3, quick=6)

__all__ = ["points"]

BAD = {7: "ValueError", 23: "ValueError"}
LATER = "INSERT INTO points SELECT i, i + 0.5 FROM generate_series(41, 60) i"
TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'scorebeat_work'::regnamespace AND relkind = 'r' ORDER BY 1"


def partial(points: Points, **options: object) -> tuple[Job, int]:
    """A run over 40 points, of which two are in quarantine."""
    points.fill(40)
    points.model({"raise": BAD})
    job = points.job(snapshot=True, batch_rows=15, **options)
    run = points.scored(job)
    snapshots.drop_unneeded(points.producer)
    return job, run


def as_they_were(points: Points) -> None:
    points.sql("CREATE TABLE before AS SELECT * FROM points")


@pytest.mark.quick
def test_a_bad_row_costs_only_itself_and_a_requeue_scores_it_as_it_was(points: Points) -> None:
    job, run = partial(points)
    assert points.run(run).state is RunState.PARTIAL
    assert_accounted(points.engine, job, BAD)
    as_they_were(points)

    points.mend()
    points.sql("UPDATE points SET x = x + 100")
    assert requeue(points.producer, run, "ann") == 1

    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {}, "before")
    assert snapshots.drop_unneeded(points.producer) == 1
    assert points.sql(TABLES) == []


@pytest.mark.parametrize("care", [1, 2])
def test_a_batch_is_scored_in_chunks_and_row_by_row_from_its_snapshot(points: Points, care: int) -> None:
    points.fill(40)
    points.model({"raise": BAD})
    job = points.job(snapshot=True, batch_rows=15)
    run = points.planned(job)

    points.sql("UPDATE scorebeat.batches SET care = :care", care=care)

    assert points.work(run) is RunState.PARTIAL
    assert_accounted(points.engine, job, BAD)


def test_a_batch_whose_rows_are_scored_in_part_scores_the_others(points: Points) -> None:
    points.fill(40)
    points.model({})
    job = points.job(snapshot=True, batch_rows=40, batch_bytes=1024)
    run = points.planned(job)
    (batch,) = points.batches(run, "id")
    table = points.sql("SELECT table_name FROM scorebeat.prediction_sets")[0]
    points.sql(f"INSERT INTO predictions.{table} (id, value, batch_id) SELECT id, 2 * x, {batch} FROM points LIMIT 11")

    assert points.work(run) is RunState.SUCCEEDED

    assert_accounted(points.engine, job, {})


def test_a_run_that_is_tried_again_as_a_whole_scores_the_same_rows_again(points: Points) -> None:
    job, run = partial(points, on_failure="retry-run", run_attempts=1)
    assert points.run(run).state is RunState.FAILED
    as_they_were(points)
    points.sql("DELETE FROM points WHERE id > 10")
    points.mend()

    assert requeue(points.producer, run, "ann") == 3

    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {}, "before")


def test_a_requeue_after_a_newer_run_leaves_its_rows_to_the_next_run(points: Points) -> None:
    job, run = partial(points)
    points.sql(LATER)
    newer = points.scored(job)
    assert points.run(newer).state is RunState.SUCCEEDED
    assert snapshots.drop_unneeded(points.producer) == 2

    points.mend()
    with pytest.raises(UsageError, match=r"2 rows that it had in quarantine are pending now.*`scorebeat enqueue"):
        requeue(points.producer, run, "ann")
    assert points.quarantined(job) == []

    points.scored(job)
    assert_accounted(points.engine, job, {})


def test_a_run_that_found_nothing_replaces_no_snapshot(points: Points) -> None:
    job, run = partial(points)

    points.scored(job)
    snapshots.drop_unneeded(points.producer)

    assert points.sql(TABLES) == [f"run_{run}"]


@pytest.mark.parametrize(
    "selection",
    [Selection(limit=5), Selection(where="x > 50"), Selection(keys=(("50",),))],
    ids=["limit", "where", "keys"],
)
def test_a_run_over_some_rows_replaces_no_snapshot(points: Points, selection: Selection) -> None:
    job, run = partial(points)
    points.sql(LATER)

    some = enqueue(points.producer, Request(job.name, "test", selection=selection)).run_id
    plan(points.producer, some)
    assert points.work(some) is RunState.SUCCEEDED
    snapshots.drop_unneeded(points.producer)

    assert points.sql(TABLES) == [f"run_{run}"]


def test_prune_drops_the_snapshots_of_runs_that_ended_long_ago(points: Points) -> None:
    _, run = partial(points)
    younger = retention.preview(points.producer, timedelta(days=1)).counts
    old = retention.preview(points.producer, timedelta(0)).counts
    assert (younger["snapshots"], old["snapshots"]) == (0, 1)
    assert points.sql(TABLES) == [f"run_{run}"]

    done = retention.run(points.producer, timedelta(0), "ann")

    assert done.counts["snapshots"] == 1
    assert points.sql(TABLES) == []


REMOVALS: dict[str, Callable[[Points], object]] = {
    "the job was dropped": lambda points: change_job.drop(points.producer, "points_job", "ann"),
    "the job left its file": lambda points: remove_all(points.producer, "ann"),
}


@pytest.mark.parametrize("remove", REMOVALS.values(), ids=REMOVALS)
def test_the_snapshots_of_a_removed_job_go(points: Points, remove: Callable[[Points], object]) -> None:
    partial(points)

    remove(points)
    snapshots.drop_unneeded(points.producer)

    assert points.sql(TABLES) == []


def test_a_requeue_of_rows_that_the_snapshot_lost_is_refused_and_changes_nothing(points: Points) -> None:
    job, run = partial(points)
    points.sql(f"DELETE FROM scorebeat_work.run_{run} WHERE id = 23")

    with pytest.raises(SnapshotLost, match="has 1 of 2 rows that are to be scored again"):
        requeue(points.producer, run, "ann")

    assert points.run(run).state is RunState.PARTIAL
    assert_accounted(points.engine, job, BAD)


def test_dead_batches_are_requeued_from_the_snapshot(points: Points) -> None:
    points.fill(40)
    points.model({})
    job = points.job(snapshot=True, batch_rows=15)
    run = points.planned(job)
    as_they_were(points)
    dead = "state = 'dead', error = 'oh', finished_at = now(), sent_at = NULL"
    points.sql(f"UPDATE scorebeat.batches SET {dead} WHERE number = 2")
    assert points.work(run) is RunState.PARTIAL
    assert snapshots.drop_unneeded(points.producer) == 0
    points.sql("UPDATE points SET x = 0")

    assert requeue(points.producer, run, "ann") == 1

    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {}, "before")
