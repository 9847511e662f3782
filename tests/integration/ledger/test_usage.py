"""Device time and CPU time of each attempt are counted once, however it ended, and outlive batches and requeues."""

import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Connection

from scorebeat.core.errors import ClaimLost
from scorebeat.core.prices.price_list import NO_PRICES
from scorebeat.core.states import RunState
from scorebeat.db.closing import run_totals
from scorebeat.db.connect import database_clock
from scorebeat.db.ledger import batches
from scorebeat.db.ledger.batches import Claim
from scorebeat.db.processes import workers
from scorebeat.db.records import retention
from scorebeat.db.reports import usage
from scorebeat.db.reports.usage import Usage
from scorebeat.producer.control.upkeep.rescue import rescue
from scorebeat.producer.control.upkeep.settle import settle
from scorebeat.producer.costs import cost_report
from scorebeat.producer.costs.cost_report import Cost
from scorebeat.producer.requests.release import release
from scorebeat.producer.requests.requeue import requeue
from scorebeat.worker.scoring import score
from scorebeat.worker.scoring.score import Outcome, score_batch
from tests.support.old_rows import OLD
from tests.support.poison_fixtures import Points, assert_accounted, points

__all__ = ["points"]

MINUTE = timedelta(minutes=1)
SLOW = 0.002
"""Seconds that the model takes for a row."""
AGED = "UPDATE scorebeat.batches SET claimed_at = claimed_at - interval '{} s' WHERE state = 'claimed'"


def used(points: Points, run: int) -> dict[str, Usage]:
    """What a run used on CPUs, by how it ended."""
    with points.engine.connect() as connection:
        return {one.end: one for one in usage.by_day(connection, run=run)}


def cost(points: Points, run: int) -> Cost:
    with points.engine.connect() as connection:
        return cost_report.of_run(connection, run)


def note(points: Points) -> None:
    with points.engine.begin() as connection:
        run_totals.note(connection)


def claimed(points: Points, run: int, worker: str = "gone", ttl: timedelta = MINUTE, device: str = "cpu") -> int:
    """The run's first pending batch, claimed by another worker's process 41."""
    batch_id: int = points.pending(run)[0]
    with points.engine.begin() as connection:
        assert batches.claim(connection, batch_id, worker, ttl, device, 41) is not None
    return batch_id


def test_a_run_has_the_time_of_its_batches_and_plan_also_after_its_end_was_noted(points: Points) -> None:
    points.fill(60)
    points.model({}, seconds_a_row=SLOW)
    began = time.monotonic()
    run = points.scored(points.job(batch_rows=20))
    took = time.monotonic() - began

    live = cost(points, run)
    note(points)
    noted = cost(points, run)

    assert live == noted
    assert (live.rows, live.wasted_seconds, live.waste) == (60, 0.0, ())
    assert 60 * SLOW <= live.device_seconds - live.planning_seconds <= took
    assert 0 < live.planning_seconds < took
    assert 0 < live.cpu_seconds <= live.device_seconds + 0.1
    found = used(points, run)
    assert (found["committed"].attempts, found["planned"].attempts) == (3, 1)
    sums = points.sql("SELECT sum(fetch_seconds + predict_seconds + commit_seconds) FROM scorebeat.batches")
    assert found["committed"].used.device_seconds >= sums[0]


def test_lost_attempts_count_until_they_were_missed_or_their_claim_expired(points: Points) -> None:
    points.fill(20)
    points.model({})
    run = points.planned(points.job())
    batch = claimed(points, run)
    points.sql(AGED.format(30))
    with points.engine.begin() as connection:
        assert batches.fail_lost(connection, batch, "gone", 41, "Died: oh") == "pending"
    died = used(points, run)["lost"]
    claimed(points, run, ttl=timedelta(seconds=-10))
    points.sql(AGED.format(25))  # it expired 10 s ago, 15 s after the claim; nobody looked until now
    rescue(points.producer)
    expired = used(points, run)["lost"]

    assert (died.attempts, died.rows) == (1, 20)
    assert died.used.device_seconds == pytest.approx(30, abs=2)
    assert (expired.attempts, expired.rows) == (2, 40)
    assert expired.used.device_seconds - died.used.device_seconds == pytest.approx(15, abs=2)
    assert points.work(run) is RunState.SUCCEEDED
    (lost,) = cost(points, run).waste
    assert lost.reason == "attempts whose process or worker died, or was cut off"
    assert cost(points, run).wasted_seconds == lost.device_seconds == expired.used.device_seconds


def test_failed_attempts_and_rows_that_are_isolated_count_with_their_cpu_time(points: Points) -> None:
    points.fill(40)
    points.model({"raise": [7]}, seconds_a_row=SLOW)
    job = points.job(batch_rows=40)
    points.runtime.settings = points.settings.model_copy(update={"max_attempts": 3})
    first = points.scored(job)  # found by halving, within the one attempt
    isolated = used(points, first)["committed"].used.device_seconds
    assert_accounted(points.engine, job, {7: "ValueError"})
    points.sql("INSERT INTO points SELECT i, i + 0.5 FROM generate_series(101, 200) i")
    run = points.planned(job)
    points.harm({"raise": [i + 0.5 for i in range(101, 201)]})

    assert points.work(run) is RunState.FAILED
    requeue(points.producer, run, "test")
    points.mend()
    assert points.work(run) is RunState.SUCCEEDED

    assert isolated >= 40 * SLOW + 0.01
    found = used(points, run)
    assert found["failed"].attempts >= 2
    assert found["failed"].used.device_seconds > 0
    assert found["failed"].used.cpu_seconds > 0
    assert found["committed"].rows == 100


ENDS: dict[str, Callable[[Connection, Claim], object]] = {
    "released": lambda c, _: batches.release_all(c, "gone"),
    "cancelled": lambda c, held: batches.cancel(c, held.run_id),
    "waited": lambda c, held: batches.postpone(c, held, "waits for a lock on points", MINUTE, 0.25),
    "failed": lambda c, held: batches.kill(c, held, "Broken: for good", 0.25),
}


@pytest.mark.parametrize("end", ENDS)
def test_each_way_in_which_a_claim_ends_counts_its_time_once(points: Points, end: str) -> None:
    points.fill(40)
    points.model({})
    run = points.planned(points.job(batch_rows=20))
    with points.engine.begin() as connection:
        held = batches.claim(connection, points.pending(run)[0], "gone", MINUTE, "cpu", 41)
    assert held is not None
    points.sql(AGED.format(30))

    for _ in range(2):
        with points.engine.begin() as connection:
            ENDS[end](connection, held)

    found = used(points, run)[end]
    assert (found.attempts, found.rows) == (1, 20)
    assert found.used.device_seconds == pytest.approx(30, abs=2)
    assert found.used.cpu_seconds == (0.25 if end in ("waited", "failed") else 0)


def test_a_claim_that_a_requeue_takes_away_counts(points: Points) -> None:
    points.fill(40)
    points.model({"raise": [7]})
    run = points.planned(points.job(batch_rows=20))
    points.attempt(points.pending(run)[0])
    points.sql("UPDATE scorebeat.batches SET state = 'pending', finished_at = NULL WHERE number = 1")
    claimed(points, run)
    points.sql(AGED.format(30))

    requeue(points.producer, run, "test")

    assert used(points, run)["released"].used.device_seconds == pytest.approx(30, abs=2)


def test_an_attempt_that_lost_its_claim_adds_its_cpu_time_to_the_lost(
    points: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    points.fill(20)
    points.model({})
    run = points.planned(points.job())

    def late(*_: object) -> None:
        sum(i * i for i in range(300_000))
        raise ClaimLost("another worker has it")

    monkeypatch.setattr(score, "store", late)
    assert score_batch(points.pending(run)[0], points.runtime) is Outcome.LOST

    found = used(points, run)["lost"]
    assert (found.attempts, found.used.device_seconds) == (0, 0.0)
    assert found.used.cpu_seconds > 0.005


def test_rows_of_a_whole_run_that_is_begun_again_were_scored_twice(points: Points) -> None:
    points.fill(60)
    points.model({"raise": [47]})
    run = points.planned(points.job(batch_rows=20, on_failure="retry-run", run_attempts=2, error_threshold=-1))
    for batch in points.pending(run):
        points.attempt(batch)
    settle(points.producer, run)  # begun again: a row failed
    points.mend()

    assert points.work(run) is RunState.SUCCEEDED

    found = used(points, run)
    assert (found["repeated"].attempts, found["repeated"].rows) == (3, 59)
    assert (found["committed"].attempts, found["committed"].rows) == (3, 60)
    (waste,) = cost(points, run).waste
    assert waste.reason == "rows scored twice: their run was begun again"
    assert 0 < waste.device_seconds < cost(points, run).device_seconds


def test_a_whole_run_that_failed_was_in_vain_and_its_requeue_scores_twice(points: Points) -> None:
    points.fill(40)
    points.model({"raise": [7]})
    run = points.planned(points.job(batch_rows=20, on_failure="retry-run", run_attempts=1, error_threshold=-1))
    assert points.work(run) is RunState.FAILED
    note(points)
    failed = used(points, run)
    assert set(failed) == {"discarded", "planned"}
    assert failed["discarded"].rows == 0

    points.mend()
    requeue(points.producer, run, "test")
    again = used(points, run)
    assert points.work(run) is RunState.SUCCEEDED
    note(points)

    assert again["repeated"].used.device_seconds == pytest.approx(failed["discarded"].used.device_seconds)
    assert "discarded" not in again
    found = used(points, run)
    assert (found["repeated"].rows, found["committed"].rows) == (39, 40)


def test_a_run_that_is_requeued_counts_what_it_had_once(points: Points) -> None:
    points.fill(40)
    points.model({"raise": [7]})
    run = points.scored(points.job(batch_rows=20, error_threshold=-1))
    note(points)
    before = used(points, run)["committed"]
    points.mend()
    requeue(points.producer, run, "test")
    opened = used(points, run)["committed"]

    assert points.work(run) is RunState.SUCCEEDED
    note(points)

    assert opened == before
    after = used(points, run)["committed"]
    assert (before.attempts, after.attempts, after.rows) == (2, 3, 40)
    assert after.used.device_seconds > before.used.device_seconds


@pytest.mark.parametrize("noted_before", [True, False])
def test_the_sums_of_a_run_stay_when_its_batches_are_pruned(points: Points, noted_before: bool) -> None:
    points.fill(60)
    points.model({})
    run = points.scored(points.job(batch_rows=20))
    if noted_before:
        note(points)
    before = cost(points, run)
    points.sql(f"UPDATE scorebeat.runs SET finished_at = {OLD}")
    (kind,) = (one for one in retention.KINDS if one.name == "batches")

    with points.engine.begin() as connection:
        cutoff = database_clock.now(connection) - timedelta(days=1)
        assert retention.delete_piece(connection, kind, cutoff) == 2
    pruned = cost(points, run)
    note(points)

    assert pruned.rows == before.rows == 60
    assert pruned.device_seconds == pytest.approx(before.device_seconds)
    assert cost(points, run) == pruned


def test_processes_that_share_a_gpu_share_its_time(points: Points) -> None:
    points.fill(20)
    points.model({})
    run = points.planned(points.job())
    gpu = "cuda:1 (NVIDIA H200)"
    with points.engine.begin() as connection:
        workers.seen(connection, "gone", ["gpu"], gpu, 2)
    claimed(points, run, device=gpu)
    points.sql(AGED.format(30))
    with points.engine.begin() as connection:
        batches.release_all(connection, "gone")

    found = used(points, run)["released"].used

    assert found.device == "NVIDIA H200"
    assert found.device_seconds == pytest.approx(15, abs=1)
    assert cost(points, run).gpu_seconds == found.device_seconds


def seen_again(connection: Connection, seconds: float, name: str, *rest: object) -> None:
    """The worker's next sign of life comes so many seconds after the last one."""
    connection.exec_driver_sql(f"UPDATE scorebeat.workers SET seen_at = now() - interval '{seconds} s'")
    workers.seen(connection, name, *rest)  # type: ignore[arg-type]  # as `workers.seen` has them


def test_workers_that_are_alive_without_a_batch_are_idle(points: Points) -> None:
    points.fill(20)
    points.model({}, seconds_a_row=SLOW)
    run = points.scored(points.job())
    with points.engine.begin() as connection:
        workers.seen(connection, "w", ["cpu"], "cpu", 2)
        seen_again(connection, 4, "w", ["cpu"], "cpu", 2)
        seen_again(connection, 3600, "w", ["cpu"], "cpu", 2)  # it was cut off: 20 s count
        seen_again(connection, -60, "w", ["cpu"], "cpu", 2)  # the clock went back
    with points.engine.begin() as connection:
        workers.seen(connection, "control", ["control", "plan"], "cpu", 2)
        seen_again(connection, 10, "control", ["control", "plan"], "cpu", 2)

    with points.engine.connect() as connection:
        (found,) = cost_report.report(connection).idle
        of_job = cost_report.report(connection, "points_job")

    busy = used(points, run)["committed"].used.device_seconds
    assert found.alive_seconds == pytest.approx(48, abs=0.1)
    assert found.idle_seconds == pytest.approx(48 - busy, abs=0.1)
    assert (of_job.idle, of_job.prices) == ((), NO_PRICES)


def test_a_release_counts_no_device_time_again(points: Points) -> None:
    points.fill(20)
    points.model({}, seconds_a_row=SLOW)
    run = points.scored(points.job(rescore="every-run", gate={"min_rows": 100}))
    assert points.run(run).state is RunState.HELD
    note(points)
    held = cost(points, run)
    release(points.producer, run, "ann")
    assert cost(points, run) == held
    note(points)
    assert cost(points, run) == held


def test_a_run_over_the_end_of_a_month_leaves_workers_idle_in_neither(points: Points) -> None:
    points.fill(5)
    points.model({})
    run = points.scored(points.job())
    note(points)
    points.sql("UPDATE scorebeat.runs SET created_at = '2026-06-30 23:00Z', finished_at = '2026-07-01 02:00Z'")
    points.sql("DELETE FROM scorebeat.run_usage")
    points.sql(
        "INSERT INTO scorebeat.run_usage (run_id, outcome, device, job, day, queue, attempts, device_seconds,"
        " cpu_seconds, rows) VALUES (:run, 'committed', 'cpu', 'points_job', '2026-06-30', 'cpu', 1, 10800, 0, 5)",
        run=run,
    )
    points.sql("DELETE FROM scorebeat.worker_time")
    points.sql(
        "INSERT INTO scorebeat.worker_time (month, queue, device, device_seconds)"
        " VALUES ('2026-06-01', 'cpu', 'cpu', 3600), ('2026-07-01', 'cpu', 'cpu', 7260)"
    )
    with points.engine.connect() as connection:
        found = {one.month.month: one.idle_seconds for one in usage.worker_time(connection)}
    assert found == {6: pytest.approx(0, abs=1e-6), 7: pytest.approx(60)}


def test_idle_time_is_unknown_if_more_was_used_than_workers_recorded(points: Points) -> None:
    points.fill(20)
    points.model({}, seconds_a_row=SLOW)
    points.scored(points.job())
    with points.engine.begin() as connection:
        workers.seen(connection, "w", ["cpu"], "cpu", 1)
        seen_again(connection, 0.001, "w", ["cpu"], "cpu", 1)

    with points.engine.connect() as connection:
        (found,) = cost_report.report(connection).idle

    assert found.idle_seconds is None


def test_a_batch_that_is_committed_in_parts_counts_once(points: Points) -> None:
    points.fill(60)
    points.model({}, seconds_a_row=SLOW)
    job = points.job(batch_rows=60, batch_bytes=1024)
    run = points.scored(job)

    found = used(points, run)["committed"]
    assert (found.attempts, found.rows) == (1, 60)
    assert found.used.device_seconds >= 60 * SLOW
