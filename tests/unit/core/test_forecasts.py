"""The arithmetic of forecasts, over series whose end is known."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scorebeat.core.forecasts import costs, day, forecast
from scorebeat.core.forecasts.costs import Part, Range
from scorebeat.core.forecasts.day import DueTime, JobOfQueue
from scorebeat.core.forecasts.evidence import Evidence, History, InProgress, OpenRun, PastRun, Worker
from scorebeat.core.forecasts.forecast import Forecast, of_new, of_open

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BATCHES = 100
ROWS = 1_000
SHAPES: dict[str, Callable[[float], float]] = {
    "steady": lambda _: 1.0,
    "rows get dearer": lambda share: 1 + 2 * share,
}


def a_worker(name: str = "w", processes: int = 2, age: float = 3600) -> Worker:
    return Worker(name, frozenset({"cpu"}), processes, age)


def a_run(**options: object) -> OpenRun:
    """A run of 100 batches, of which 40 took two processes a second each."""
    made = OpenRun(
        id=1, job="churn", queue="cpu", is_planning=False, age=20, rank=0, batch_rows=ROWS, rows_done=40 * ROWS,
        rows_open=60 * ROWS, batches_open=60, first_open=41, last_open=100, since_last_commit=0.1,
        parts=(Part(ROWS, 1.0),) * 40, batches_done=40, busy={"w": 2.0}, busy_since=20,
    )  # fmt: skip
    return replace(made, **options)  # type: ignore[arg-type]


def waiting(**options: object) -> OpenRun:
    """A run of job `late` behind it, of which nothing was claimed."""
    fresh = {"rows_done": 0, "parts": (), "batches_done": 0, "busy": {}, "busy_since": 0.0, "since_last_commit": None}
    place = {"id": 2, "job": "late", "first_open": 101, "last_open": 160}
    return a_run(**{**fresh, **place, **options})


def known(*runs: OpenRun, workers: tuple[Worker, ...] = (a_worker(),), past: History | None = None) -> Evidence:
    histories = {} if past is None else {(run.job, run.queue): past for run in runs}
    return Evidence(NOW, {run.id: run for run in runs}, workers, histories)


def before(busy: float = 100.0, rows: int = 100 * ROWS, **options: float) -> PastRun:
    """An earlier run of a second a batch."""
    return PastRun(
        rows, busy, options.get("wait", 0.5), options.get("planning", 0.2), busy / 2, options.get("closing", 0.5), 2
    )


def seconds(found: Forecast) -> float:
    assert found.likely is not None, found.unknown
    return (found.likely - NOW).total_seconds()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(5))
def test_from_a_third_on_the_end_is_forecast_within_15_percent(shape: str, seed: int) -> None:
    chance = random.Random(seed)
    took = [SHAPES[shape](n / BATCHES) * chance.lognormvariate(0, 0.15) for n in range(BATCHES)]
    whole = sum(took) / 2

    for share in (0.34, 0.5, 0.7, 0.9):
        done = next(n for n in range(BATCHES) if sum(took[:n]) / 2 >= share * whole)
        parts = tuple(
            Part(ROWS * (high - low), sum(took[low:high]))
            for low, high in ((part * done // 30, (part + 1) * done // 30) for part in range(30))
            if high > low
        )
        left = BATCHES - done
        run = a_run(parts=parts, batches_done=done, rows_done=done * ROWS, rows_open=left * ROWS, batches_open=left)
        found = of_open(known(run), run)
        assert abs(sum(took[:done]) / 2 + seconds(found) - whole) <= 0.15 * whole, (share, found)
        assert sorted([str(found.earliest), str(found.likely), str(found.latest)])[1] == str(found.likely)


def test_a_few_odd_batches_make_no_trend() -> None:
    parts = [Part(ROWS, 9.0 if n in (30, 35, 38) else 1.0 + n % 3 / 100) for n in range(40)]

    assert costs._trend([n * ROWS for n in range(40)], [part.cost for part in parts]) == costs.NOTHING


def test_a_trend_is_not_extended_further_than_it_was_seen() -> None:
    parts = [Part(10, 10 * (1 + n / 10)) for n in range(10)]

    near, far = costs.of_run(parts, 100), costs.of_run(parts, 10_000)

    assert near.likely == pytest.approx(2.45, rel=0.02)
    assert far.likely == pytest.approx(2.95, rel=0.02)


def test_few_batches_count_less_than_earlier_runs_and_a_third_counts_alone() -> None:
    own, earlier = Range(2, 2, 2), Range(1, 1, 1)

    assert costs.blend(own, earlier, 0.0) == earlier
    assert costs.blend(own, earlier, 1 / 6) == Range(1.5, 1.5, 1.5)
    assert costs.blend(own, earlier, 0.4) == own
    assert costs.blend(None, earlier, 0.4) == earlier


def test_one_large_run_counts_more_than_many_small_ones() -> None:
    found = costs.of_history([Part(1_000_000, 1_000.0), *[Part(10, 1.0)] * 9])

    assert found is not None
    assert found.likely == 0.001


def test_a_worker_that_is_restarted_makes_no_firm_forecast() -> None:
    def found(idle: float) -> Forecast:
        run = a_run(busy={"w": 1.0, "old": 1.0}, idle={"w": 0.0, "old": idle})
        return of_open(known(run, workers=(a_worker(processes=1),)), run)

    assert (found(5.0).is_firm, found(120.0).is_firm) == (False, True)
    assert seconds(found(5.0)) == seconds(found(120.0)) == pytest.approx(60)
    back = a_run(busy={"w": 1.0, "old": 1.0}, idle={"w": 0.0, "old": 0.5})
    assert of_open(known(back, workers=(a_worker(processes=1), a_worker("old", 1))), back).is_firm


def test_a_run_that_was_requested_for_few_rows_is_expected_to_have_few() -> None:
    fresh = {"is_planning": True, "rows_open": 0, "batches_open": 0, "first_open": 0, "last_open": 0}
    history = History((before(),))
    usual, few, some = (waiting(**fresh, **more) for more in ({}, {"most_rows": 2 * ROWS}, {"is_filtered": True}))

    assert seconds(of_open(known(usual, past=history), usual)) > 40
    assert seconds(of_open(known(few, past=history), few)) < 5
    assert of_open(known(few, past=history), few).is_firm
    assert not of_open(known(some, past=history), some).is_firm


def test_the_end_of_a_run_is_its_work_by_its_processes_and_the_last_batch() -> None:
    found = of_open(known(a_run()), a_run())

    assert seconds(found) == pytest.approx(30.25)
    assert (found.earliest, found.latest) != (found.likely, found.likely)


def test_work_that_a_living_worker_did_of_its_batches_is_not_done_again() -> None:
    claims = (InProgress(ROWS, 0.5, "w"), InProgress(ROWS, 0.5, "w"))
    lost = (InProgress(ROWS, 0.5, "gone"), InProgress(ROWS, 0.5, "gone"))

    held, freed = (seconds(of_open(known(run), run)) for run in (a_run(claims=claims), a_run(claims=lost)))

    assert freed - held == pytest.approx(0.5)


def test_workers_that_went_away_count_no_more_and_new_ones_count_at_once() -> None:
    run = a_run(busy={"w": 2.0, "gone": 2.0})
    idle = (a_worker(), a_worker("cannot load", processes=8))

    assert seconds(of_open(known(run, workers=idle), run)) == pytest.approx(30.25)
    more = known(a_run(), workers=(a_worker(), a_worker("new", age=3)))
    assert seconds(of_open(more, a_run())) == pytest.approx(15.375)


def test_a_worker_that_takes_no_batch_of_the_queue_does_not_count() -> None:
    idle = known(a_run(), workers=(a_worker(), a_worker("cannot load", processes=8)))

    assert seconds(of_open(idle, a_run())) == pytest.approx(30.25)


def test_many_runs_of_a_queue_are_forecast_without_each_for_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    computed = []

    def cost(run: OpenRun, *rest: Any) -> Range | None:
        computed.append(run.id)
        return usual(run, *rest)

    usual = forecast._cost
    monkeypatch.setattr(forecast, "_cost", cost)
    runs = [a_run(id=n, first_open=100 * n, last_open=100 * n + 59) for n in range(1, 41)]
    evidence = known(*runs)
    assert all(of_open(evidence, run).likely is not None for run in runs)
    assert len(computed) <= 2 * len(runs)


def test_a_measurement_under_a_clock_that_jumped_is_no_forecast_and_no_error() -> None:
    run = a_run(parts=(Part(ROWS, 3e12),) * 40)
    assert of_open(known(run), run).unknown == "at the speed that was measured it would take more than a year"
    stands = a_run(busy={"w": 1e-9})
    assert of_open(known(stands), stands).likely is None


def test_processes_without_a_batch_are_free_and_make_no_run_late() -> None:
    last = a_run(rows_open=ROWS, batches_open=1, busy={"w": 0.1}, rows_done=99 * ROWS)
    assert seconds(of_open(known(last, workers=(a_worker(processes=4),)), last)) == pytest.approx(1)
    many = a_run(busy={"w": 0.1})  # here they are slow, whatever the cause
    assert seconds(of_open(known(many, workers=(a_worker(processes=4),)), many)) > 500


def test_a_run_that_waits_ends_after_the_run_ahead_of_it() -> None:
    late = waiting()
    found = of_open(known(a_run(), late, past=History((before(),))), late)

    assert seconds(found) == pytest.approx(30 + 30 + 0.25 + 0.5)
    assert [(one.run, one.job) for one in found.ahead] == [(1, "churn")]
    assert found.ahead[0].seconds == pytest.approx(30)


def test_a_run_of_a_lower_rank_is_not_ahead() -> None:
    late = waiting()
    found = of_open(known(a_run(rank=1), late, past=History((before(),))), late)

    assert found.ahead == ()
    assert seconds(found) == pytest.approx(30.75)


def test_a_run_that_is_planned_is_forecast_from_the_rows_and_times_of_earlier_ones() -> None:
    run = waiting(is_planning=True, age=1, rows_open=0, batches_open=0, first_open=0, last_open=0)
    found = of_open(known(run, past=History((before(wait=3.0, closing=2.0),))), run)

    assert seconds(found) == pytest.approx(2 + 50 + 0.25 + 2)


def test_a_run_behind_is_not_ahead_and_one_between_is_so_in_part() -> None:
    run, past = a_run(), History((before(),))
    alone = waiting(batches_open=1, rows_open=ROWS, first_open=101, last_open=101)
    between = waiting(first_open=71, last_open=130)

    assert of_open(known(run, alone, past=past), run).ahead == ()
    assert seconds(of_open(known(run, between, past=past), run)) == pytest.approx(30 + 30 * 29 / 59 + 0.75)


def _numbers(chance: random.Random) -> OpenRun:
    batches, done, first = chance.choice([0, 1, 7, 60]), chance.choice([0, 1, 2, 9, 50]), chance.randint(1, 90)
    return OpenRun(
        id=chance.randint(1, 3), job=chance.choice(["churn", "late"]), queue=chance.choice(["cpu", "gpu"]),
        is_planning=chance.random() < 0.3, age=chance.random() * 99, rank=chance.randint(0, 2), batch_rows=ROWS,
        rows_done=done * 5, rows_open=batches * chance.choice([0, 5]), batches_open=batches,
        first_open=first if batches else 0, last_open=first + batches - 1 if batches else 0,
        since_last_commit=chance.choice([None, 0.0, 9.0]), parts=(Part(5, chance.random() + 0.001),) * done,
        batches_done=done, claims=(InProgress(5, chance.random() * 9, "w"),) * min(batches, chance.randint(0, 2)),
        busy=chance.choice([{}, {"w": 0.3}, {"gone": 1.0}]), busy_since=chance.random() * 60,
    )  # fmt: skip


def test_any_ledger_gives_a_range_or_a_reason() -> None:
    chance = random.Random(1)
    for _ in range(600):
        runs = [_numbers(chance) for _ in range(3)]
        past = chance.choice([None, History((before(),)), History((before(), before(busy=9.0, rows=1)))])
        evidence = known(*runs, workers=chance.choice([(), (a_worker(),), (a_worker("new", age=1),)]), past=past)
        for run in evidence.runs.values():
            found = of_open(evidence, run)
            times = [time for time in (found.earliest, found.likely, found.latest) if time is not None]
            assert len(times) == (3 if found.unknown is None else 0)
            assert times == sorted(times)
            assert all(time >= NOW for time in times)
            assert found.unknown is not None or found.help(evidence, NOW + timedelta(seconds=chance.random() * 99))


NONE_YET = waiting(id=1, job="churn")


@pytest.mark.parametrize(
    ("run", "evidence", "why"),
    [
        (waiting(is_planning=True), known(waiting(is_planning=True)), "rows are being counted, and no earlier run"),
        (NONE_YET, known(NONE_YET), "none of its batches is done yet, and no earlier run of job churn"),
        (waiting(), known(NONE_YET, waiting()), "no earlier run of job late"),
        (a_run(), known(a_run(), workers=()), "no worker listens on queue 'cpu'"),
        (
            waiting(parts=(Part(ROWS, 1.0),) * 2, batches_done=2, rows_done=2 * ROWS),
            known(NONE_YET, waiting()),
            "run 1 of job churn is ahead on queue 'cpu', and its speed is not known yet",
        ),
    ],
)
def test_a_forecast_that_nothing_supports_is_a_reason_and_no_number(run: OpenRun, evidence: Evidence, why: str) -> None:
    found = of_open(evidence, run)

    assert (found.earliest, found.likely, found.latest) == (None, None, None)
    assert why in str(found.unknown)


def test_a_run_that_did_not_begin_is_forecast_from_earlier_runs_behind_open_ones() -> None:
    past = History((before(), before(busy=110.0)))
    evidence = replace(known(a_run()), histories={("new", "cpu"): past})

    found = of_new(evidence, "new", "cpu", 0, ROWS, 100 * ROWS)

    assert seconds(found) == pytest.approx(0.5 + 30 + 50 + 0.25 + 0.5)
    assert (
        of_new(evidence, "other", "cpu", 0, ROWS, 10).unknown
        == "no run of job other has scored rows on queue 'cpu' yet"
    )


def test_a_run_before_its_workers_start_counts_those_of_earlier_runs() -> None:
    evidence = replace(known(workers=()), histories={("new", "cpu"): History((before(),))})

    assert seconds(of_new(evidence, "new", "cpu", 0, ROWS, 100 * ROWS)) == pytest.approx(0.5 + 50 + 0.25 + 0.5)


def test_help_is_named_with_its_number() -> None:
    alone, late = of_open(known(a_run()), a_run()), waiting()
    behind = of_open(known(a_run(), late, past=History((before(),))), late)
    soon, never = NOW + timedelta(seconds=16), NOW + timedelta(seconds=0.5)

    assert alone.help(known(a_run()), soon) == "2 more processes on queue 'cpu' would help, 4 instead of 2"
    assert alone.help(known(a_run()), never) == "no more processes would help: a batch takes 1 s"
    assert "; run 1 of job churn is ahead on queue 'cpu', with about 30 s to go" in behind.help(
        known(a_run(), late), NOW + timedelta(seconds=40)
    )


def nightly(name: str, work: float, deadline: float = 3_000, hour: int = 2) -> JobOfQueue:
    at = NOW.replace(hour=hour, minute=0) + timedelta(days=1)
    return JobOfQueue(name, (DueTime(at, at + timedelta(seconds=deadline)),), work, 2.0)


def test_two_jobs_that_cannot_both_end_in_time_are_named_with_the_one_before() -> None:
    found = day.simulate([nightly("one", 4_000), nightly("two", 4_000)], 2, NOW)

    assert [(miss.job, miss.behind) for miss in found.misses] == [("two", ("one",))]
    assert found.share_busy == pytest.approx(8_000 / 2 / 86_400)


@pytest.mark.parametrize(
    ("jobs", "late"),
    [
        ([nightly("one", 2_000), nightly("two", 2_000)], []),
        ([nightly("one", 4_000), nightly("two", 4_000, hour=3)], []),
        ([nightly("one", 7_000)], [("one", ())]),
    ],
)
def test_jobs_that_end_in_time_are_not_named_and_one_that_is_late_alone_is(
    jobs: list[JobOfQueue], late: list[tuple[str, tuple[str, ...]]]
) -> None:
    assert [(miss.job, miss.behind) for miss in day.simulate(jobs, 2, NOW).misses] == late


def test_a_due_time_whose_run_before_is_still_open_has_no_run() -> None:
    times = tuple(DueTime(NOW + timedelta(hours=n), NOW + timedelta(hours=n, minutes=59)) for n in range(3))

    short = NOW + timedelta(seconds=5_100)
    other = JobOfQueue("short", (DueTime(short, short + timedelta(minutes=5)),), 100.0, 0.0)

    (miss,) = day.simulate([JobOfQueue("hourly", times, 5_000.0, 0.0), other], 1, NOW).misses

    assert (miss.job, miss.due_at, miss.ends_at) == ("hourly", NOW, NOW + timedelta(seconds=5_000))
