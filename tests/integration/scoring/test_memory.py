"""Memory that does not hold a batch, or a row: what is scored, what is quarantined, what is tried again."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from scorebeat.core.states import RunState
from scorebeat.db.records import device_limits
from tests.support.poison_fixtures import Points, assert_accounted, points

__all__ = ["points"]

TOO_LARGE = "DeviceMemoryError"


def sizes(path: Path) -> list[int]:
    return [len(json.loads(line)[1]) for line in path.read_text().splitlines()]


def limits(points: Points) -> list[tuple[str, int, str, int]]:
    return points.sql("SELECT model, model_version, device, micro_batch_rows FROM scorebeat.device_limits")


@pytest.mark.slow(quick=2)
@pytest.mark.parametrize("batch_rows", [30, 200])
def test_a_batch_that_does_not_fit_is_scored_in_parts_and_the_size_is_remembered(
    points: Points, batch_rows: int
) -> None:
    points.fill(200)
    points.model({}, out_of_memory_above=20)
    job = points.job(batch_rows=batch_rows)

    assert points.work(points.planned(job)) is RunState.SUCCEEDED

    assert_accounted(points.engine, job, {})
    assert points.errors == []
    ((model, version, device, rows),) = limits(points)
    assert (model, version, device) == ("poison", 1, "cpu")
    assert 10 <= rows <= 20


def test_a_row_that_never_fits_is_quarantined_and_all_others_are_scored(points: Points, tmp_path: Path) -> None:
    points.fill(200)
    points.model({"out of memory": [50, 51, 120]}, calls=str(tmp_path / "calls"))
    job = points.job()

    assert points.work(points.planned(job)) is RunState.PARTIAL

    assert_accounted(points.engine, job, dict.fromkeys([50, 51, 120], TOO_LARGE))
    assert "one row alone does not fit" in points.quarantined(job, "error")[0]
    assert limits(points) == []
    (loaded,) = points.runtime._models.values()
    assert loaded.limit is None


def test_a_device_that_is_full_for_a_while_costs_no_row_not_even_in_a_batch_of_one(points: Points) -> None:
    points.fill(1)
    points.model({"out of memory": [1]})
    job = points.job()
    run = points.planned(job)

    (batch,) = points.pending(run)
    points.attempt(batch)
    points.mend()

    assert points.batches(run) == [("pending", 1)]
    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


@pytest.mark.slow
def test_a_single_row_that_never_fits_is_quarantined_by_the_last_attempt(points: Points) -> None:
    points.fill(1)
    points.model({"out of memory": [1]})
    job = points.job(error_threshold=-1)
    run = points.planned(job)

    assert points.work(run) is RunState.FAILED or points.run(run).state is RunState.PARTIAL

    assert_accounted(points.engine, job, {1: TOO_LARGE})
    assert points.batches(run) == [("committed", points.settings.max_attempts)]


def test_a_device_that_stays_full_makes_the_batch_dead_and_quarantines_no_row(points: Points) -> None:
    points.fill(100)
    points.model({"out of memory": range(1, 101)})
    job = points.job()
    run = points.planned(job)

    assert points.work(run) is RunState.FAILED

    assert points.batches(run) == [("dead", points.settings.max_attempts)]
    assert points.quarantined(job) == []


def test_a_limit_older_than_a_week_is_ignored_and_the_lower_of_two_is_kept(points: Points) -> None:
    def learn(rows: int) -> int | None:
        with points.engine.begin() as connection:
            device_limits.learn(connection, "m", 1, "NVIDIA H200", rows)
            return device_limits.known(connection, "m", 1, "NVIDIA H200")

    assert [learn(64), learn(32), learn(48)] == [64, 32, 32]

    points.sql("UPDATE scorebeat.device_limits SET learned_at = now() - :age", age=device_limits.KEPT_FOR)
    with points.engine.begin() as connection:
        assert device_limits.known(connection, "m", 1, "NVIDIA H200") is None
        assert device_limits.known(connection, "m", 1, "cpu") is None

    assert learn(512) == 512
    assert timedelta(days=1) < device_limits.KEPT_FOR
