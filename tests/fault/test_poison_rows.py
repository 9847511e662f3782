"""Rows that end or hang their process: each is found and quarantined, all others are committed, none twice."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from scorebeat.core.jobs.job import Job
from scorebeat.core.settings import Settings
from scorebeat.core.states import FINAL_RUN, RunState
from scorebeat.producer.control import control_round
from tests.support import poison
from tests.support.fixtures import Programs, kill_group
from tests.support.poison_fixtures import Points, assert_accounted, points

pytestmark = pytest.mark.wide

__all__ = ["points"]

DIED = "ProcessDied"


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """As for every test, and a model may take one second, or as many as the test's parameter; a batch one more."""
    seconds = getattr(request, "param", 1)
    limits = {"batch_time_limit": seconds + 1, "chunk_time_limit": seconds, "row_time_limit": seconds}
    return settings.model_copy(update=limits)


@pytest.fixture
def worker(request: pytest.FixtureRequest, programs: Programs) -> Iterator[None]:
    """A worker that knows the model format; the test is its control."""
    processes = getattr(request, "param", 1)
    options = ("-Q", "cpu", "-n", "w@%h", "-c", str(processes), "-I", poison.__name__)
    quiet = ("-l", "INFO")
    process = programs.start("celery", "-A", "scorebeat.worker", "worker", *options, *quiet)
    yield
    kill_group(process)


def until_finished(points: Points, run: int, within: float = 60.0) -> RunState:
    """Be the control until the run is closed."""
    deadline = time.monotonic() + within
    while (state := points.run(run).state) not in FINAL_RUN:
        if time.monotonic() > deadline:
            pytest.fail(
                f"run {run} is {state} after {within:g} s: {points.batches(run, 'state, attempt, care, error')}"
            )
        control_round.run_once(points.producer)
        time.sleep(0.05)
    return state


def calls(path: Path) -> list[tuple[float, list[float]]]:
    """When the model was called, with which values."""
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()]


def assert_nothing_committed_was_scored_again(points: Points, job: Job, path: Path) -> None:
    stored = points.sql(
        f"SELECT p.x, extract(epoch FROM v.scored_at)::float8 FROM predictions.{job.name} v JOIN points p USING (id)"
    )
    since = dict(stored)
    again = [x for at, xs in calls(path) for x in xs if x in since and at > since[x]]
    assert len(since) > 0
    assert again == []


def run_of(points: Points, kinds: Mapping[str, Iterable[int]], rows: int, **options: Any) -> tuple[Job, int]:
    points.fill(rows)
    points.model(kinds, calls=str(points.folder / "calls"))
    job = points.job(**options)
    return job, points.planned(job)


@pytest.mark.slow
@pytest.mark.usefixtures("worker")
def test_one_row_of_20_000_that_ends_its_process_costs_three_deaths_and_only_itself(points: Points) -> None:
    job, run = run_of(points, {"segfault": [12_345]}, 20_000)

    assert until_finished(points, run) is RunState.PARTIAL

    assert points.batches(run) == [("committed", 4)]
    assert points.batches(run, "rows_scored, rows_failed, care") == [(19_999, 1, 1)]
    (error,) = points.quarantined(job, "z.error")
    assert error.startswith("scoring this row alone ended the process: ")
    assert "SIGSEGV" in error or "signal 11" in error
    assert_accounted(points.engine, job, {12_345: DIED})
    assert_nothing_committed_was_scored_again(points, job, points.folder / "calls")


@pytest.mark.usefixtures("worker")
def test_several_such_rows_adjacent_in_one_chunk_and_apart_are_all_found(points: Points) -> None:
    ends = [700, 701, 2999]
    kinds = {"exit": ends, "raise": [699, 702, 10], "nan": [703]}
    job, run = run_of(points, kinds, 3000)

    assert until_finished(points, run) is RunState.PARTIAL

    ((state, attempts),) = points.batches(run)
    assert state == "committed"
    assert attempts - 1 <= 3 * len(ends)
    assert_accounted(
        points.engine, job, {**dict.fromkeys(ends, DIED), 699: "ValueError", 702: "ValueError", 10: "ValueError"}
        | {703: "NonsenseError"},
    )  # fmt: skip
    assert_nothing_committed_was_scored_again(points, job, points.folder / "calls")


@pytest.mark.slow
@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("settings", [3], indirect=True)  # rows that do not hang need a second on a busy machine
def test_a_row_that_hangs_is_found_even_if_it_holds_the_interpreters_lock(points: Points) -> None:
    job, run = run_of(points, {"hang": [1500], "hang holding the lock": [400], "slow words": [900]}, 2000)

    assert until_finished(points, run) is RunState.PARTIAL

    # a machine that stands still for seconds makes one more attempt seem to hang
    assert points.batches(run) in ([("committed", 8)], [("committed", 9)])
    assert_accounted(points.engine, job, {400: DIED, 900: DIED, 1500: DIED})
    assert_nothing_committed_was_scored_again(points, job, points.folder / "calls")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("worker")
def test_a_row_that_stops_its_process_is_found_and_each_death_has_its_cause(points: Points) -> None:
    job, run = run_of(points, {"stop": [700], "exit 1": [400], "hang": [1500]}, 2000)

    assert until_finished(points, run, within=200) is RunState.PARTIAL

    errors = dict(zip(points.quarantined(job), points.quarantined(job, "z.error"), strict=True))
    assert "stood still" in errors["700"]
    assert "stopped by a signal" in errors["700"]
    assert "ended its process with exit code 1" in errors["400"]
    assert "longer than its time limit of 1 s" in errors["1500"]
    assert not any("time limit" in errors[row] for row in ("400", "700"))
    assert_accounted(points.engine, job, dict.fromkeys([400, 700, 1500], DIED))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("worker")
def test_a_row_whose_prediction_closes_the_processs_connections_costs_only_itself(points: Points) -> None:
    job, run = run_of(points, {"close": [400], "replace": [1500]}, 2000)

    assert until_finished(points, run, within=200) is RunState.PARTIAL

    errors = points.quarantined(job, "z.error")
    assert ["closed descriptors that it did not open" in words for words in errors] == [True, True]
    assert_accounted(points.engine, job, dict.fromkeys([400, 1500], DIED))


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("worker", [2], indirect=True, ids=["two processes"])
def test_bad_rows_of_one_batch_do_not_hold_up_the_others(points: Points) -> None:
    job, run = run_of(points, {"exit": [1, 700]}, 800, batch_rows=200)

    assert until_finished(points, run) is RunState.PARTIAL

    found = points.batches(run)
    assert [state for state, _ in found] == ["committed"] * 4
    assert [attempt for _, attempt in found] == [4, 1, 1, 4]
    assert_accounted(points.engine, job, {1: DIED, 700: DIED})
    assert_nothing_committed_was_scored_again(points, job, points.folder / "calls")
