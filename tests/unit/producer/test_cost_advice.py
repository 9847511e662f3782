"""Recommendations come from the times of batches, and only where these show something."""

from datetime import timedelta

import numpy as np
import pytest

from scorebeat.core.jobs.job import Job
from scorebeat.db.reports.forecasts.batch_times import BatchTime, RunTime
from scorebeat.producer.costs.advice import advise
from scorebeat.producer.costs.batch_fit import BatchFit, fit

FIXED, PER_ROW = 0.020, 2e-6
SIZES = (500, 1_000, 2_000, 10_000)


def job(batch_rows: int = 1_000, **options: object) -> Job:
    usual = {"name": "iris", "query": "SELECT 1", "key": ("id",), "model": "iris", "batch_rows": batch_rows}
    return Job.model_validate({**usual, **options})


def times(sizes: tuple[int, ...] = SIZES, each: int = 25, fixed: float = FIXED, seed: int = 1) -> list[BatchTime]:
    """Batches whose times scatter by a tenth around a line."""
    scatter = np.random.default_rng(seed).normal(1, 0.1, len(sizes) * each)
    rows = [size for size in sizes for _ in range(each)]
    seconds = [float((fixed + size * PER_ROW) * by) for size, by in zip(rows, scatter, strict=True)]
    return [BatchTime(n, s, s / 4, n * PER_ROW / 2, s / 4) for n, s in zip(rows, seconds, strict=True)]


def run(rows: int = 1_000_000, processes: int = 2, busy: float = 18.0, scoring: float = 10.0) -> RunTime:
    took = timedelta(seconds=scoring + 1)
    return RunTime(1, rows, 100, processes, took, timedelta(seconds=scoring), busy)


@pytest.mark.parametrize("seed", range(5))
def test_the_costs_of_a_batch_and_of_a_row_are_found(seed: int) -> None:
    found = fit(times(seed=seed))

    assert isinstance(found, BatchFit)
    assert found.fixed == pytest.approx(FIXED, rel=0.2)
    assert found.per_row == pytest.approx(PER_ROW, rel=0.2)
    assert abs(found.fixed - FIXED) < 4 * found.fixed_error
    assert (found.smallest, found.largest) == (500, 10_000)


def test_batches_in_which_a_model_was_loaded_change_nothing() -> None:
    loading = [BatchTime(n, 3.0, 0.01, 2.9, 0.01) for n in (500, 10_000, 10_000)]

    found = fit(times() + loading)

    assert isinstance(found, BatchFit)
    assert found.fixed == pytest.approx(FIXED, rel=0.2)
    assert found.batches <= 100


@pytest.mark.parametrize(
    ("few", "why"),
    [
        (times(each=2), "8 batches of late were scored without a fault; 10 are needed"),
        (times((9_000, 10_000)), "the last 50 batches have much the same size"),
        (times((500, 10_000), fixed=0.0), "do not grow with their rows clearly enough"),
        ([BatchTime(n, 0.5, 0.1, 0.3, 0.1) for n in (100, 1_000) * 20], "do not grow with their rows clearly enough"),
    ],
)
def test_nothing_is_claimed_that_the_batches_do_not_show(few: list[BatchTime], why: str) -> None:
    found = fit(few)

    assert isinstance(found, str)
    assert why in found
    assert advise(job(), "cpu", few, [run()]).batch_rows is None


def test_small_batches_are_recommended_to_grow_with_the_numbers_beside_it() -> None:
    advice = advise(job(1_000), "cpu", times(), [run()])

    assert advice.batch_rows == pytest.approx(40_000)  # the furthest from what was measured
    assert advice.small_batches_seconds == pytest.approx(100 * FIXED, rel=0.2)
    (line,) = (line for line in advice.recommended if "batch_rows" in line)
    assert line.startswith("batch_rows = 40000 instead of 1000: ")
    assert any("a batch costs" in line and "batches of 500 to 10,000 rows" in line for line in advice.measured)


def test_a_good_size_and_a_small_run_are_left_alone() -> None:
    assert advise(job(500_000), "cpu", times(), [run()]).batch_rows is None
    assert advise(job(1_000), "cpu", times(), [run(rows=8_000)]).batch_rows is None


@pytest.mark.parametrize(
    ("deadline", "present", "better"),
    [("21 s", 2, None), ("11 s", 2, 3), ("21 s", 8, 2), ("1 h", 2, 1), ("1 s", 2, None)],
)
def test_processes_follow_from_the_deadline_and_the_time_that_a_run_takes(
    deadline: str, present: int, better: int | None
) -> None:
    advice = advise(job(deadline=deadline), "cpu", times(), [run(processes=present)])

    assert advice.processes == better


def test_processes_that_wait_most_of_the_time_are_too_many_without_a_deadline_too() -> None:
    advice = advise(job(), "cpu", times(), [run(processes=8, busy=18.0)])

    assert advice.processes == 2
    assert "8 would do: they had a batch in 22% of the time" in advice.recommended[-1]
    assert advise(job(), "cpu", times(), [run()]).processes is None


def test_a_job_without_runs_learns_nothing() -> None:
    assert advise(job(), None, [], []).unknown == (
        "no run of late has scored rows without a fault, so there is nothing to learn from",
    )
