"""Requeue: what failed is tried again, all of it or a part, once, whoever asks and however often."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from core.errors import UnknownName, UsageError
from core.jobs import Job
from core.states import RunState
from db import columns
from producer.requeue import cancel, requeue
from tests import poison
from tests.poison_fixtures import MODEL, Points, assert_accounted, points
from worker.runtime import Runtime
from worker.score import Outcome, score_batch

__all__ = ["points"]

BAD = [5, 50, 95]


@pytest.fixture
def partial(points: Points) -> tuple[Job, int]:
    """A run of 100 rows in batches of 30 that put three of them aside; the model has been mended since."""
    points.fill(100)
    points.model({"raise": BAD})
    job = points.job(batch_rows=30)
    run = points.scored(job)
    assert points.run(run).state is RunState.PARTIAL
    points.mend()
    return job, run


def kill_batches(points: Points, job: Job, number: int, error: str = "Broken: the disk is full") -> int:
    """A run of which so many batches are dead, and the others committed."""
    run = points.planned(job)
    points.sql(
        "UPDATE scorebeat.batches SET state = 'dead', attempts_left = 0, finished_at = now(), attempt = 5,"
        " sent_at = NULL,"
        " error = :error WHERE run_id = :run AND number <= :number",
        error=error,
        run=run,
        number=number,
    )
    points.work(run)
    return run


def test_rows_put_aside_are_scored_when_the_run_is_requeued(points: Points, partial: tuple[Job, int]) -> None:
    job, run = partial
    before = points.sql("SELECT id, batch_id, scored_at FROM predictions.points_job ORDER BY id")

    made = requeue(points.producer, run, "ann")

    assert made == 1
    assert points.run(run).state is RunState.RUNNING
    assert points.work(run) is RunState.SUCCEEDED
    assert points.batches(run, "rows_planned, rows_failed")[-1] == (3, 0)
    assert set(before) <= set(points.sql("SELECT id, batch_id, scored_at FROM predictions.points_job"))
    assert_accounted(points.engine, job, {})


def test_rows_that_fail_again_are_put_aside_again(points: Points) -> None:
    points.fill(100)
    points.model({"raise": BAD})
    job = points.job(batch_rows=30)
    run = points.scored(job)

    for _ in range(2):
        requeue(points.producer, run, "ann")
        assert points.work(run) is RunState.PARTIAL

    assert_accounted(points.engine, job, dict.fromkeys(BAD, "ValueError"))
    assert sum(points.batches(run, "rows_failed")) == len(BAD)


def test_one_batch_is_requeued_and_nothing_else(points: Points, partial: tuple[Job, int]) -> None:
    job, run = partial
    first = points.batches(run, "id")[0]

    requeue(points.producer, run, "ann", batch_id=first)

    assert points.work(run) is RunState.PARTIAL
    assert_accounted(points.engine, job, dict.fromkeys([50, 95], "ValueError"))


def test_what_failed_by_an_error_is_requeued_and_nothing_else(points: Points) -> None:
    points.fill(100)
    points.model({"raise": [5], "nan": [6]})
    job = points.job(batch_rows=50)
    run = points.scored(job)
    points.mend()

    assert requeue(points.producer, run, "ann", error="no such error") == 0
    assert requeue(points.producer, run, "ann", error="does not like") == 1
    points.work(run)
    assert_accounted(points.engine, job, {6: "NonsenseError"})

    assert requeue(points.producer, run, "ann", error="NonsenseError: ") == 1
    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_dead_batches_are_requeued_all_or_by_their_error(points: Points) -> None:
    points.fill(100)
    points.model({})
    job = points.job(batch_rows=25)
    run = kill_batches(points, job, 2)
    points.sql(
        "UPDATE scorebeat.batches SET error = 'Other: 100% \"full\"' WHERE run_id = :run AND number = 2", run=run
    )

    assert requeue(points.producer, run, "ann", error='100% "full"') == 1
    assert points.work(run) is RunState.PARTIAL
    assert points.batches(run) == [("dead", 5), ("committed", 6), ("committed", 1), ("committed", 1)]
    assert requeue(points.producer, run, "ann") == 1

    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_a_second_requeue_changes_nothing(points: Points, partial: tuple[Job, int]) -> None:
    job, run = partial

    made = [requeue(points.producer, run, "ann") for _ in range(3)]
    points.work(run)
    made.append(requeue(points.producer, run, "ann"))

    assert made == [1, 0, 0, 0]
    assert points.sql("SELECT count(*) FROM scorebeat.actions WHERE action = 'run.requeued'") == [1]
    assert points.run(run).state is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_of_many_people_who_requeue_at_once_one_does_it(points: Points, partial: tuple[Job, int]) -> None:
    job, run = partial
    with ThreadPoolExecutor(8) as people:
        made = list(people.map(lambda name: requeue(points.producer, run, name), "abcdefgh"))

    assert sorted(made) == [0] * 7 + [1]
    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_a_run_that_never_failed_has_nothing_to_requeue(points: Points) -> None:
    points.fill(10)
    points.model({})
    job = points.job()
    run = points.scored(job)

    assert requeue(points.producer, run, "ann") == 0

    assert points.run(run).state is RunState.SUCCEEDED
    assert points.sql("SELECT count(*) FROM scorebeat.actions WHERE action = 'run.requeued'") == [0]


def test_a_run_that_is_not_there_or_was_cancelled_is_not_requeued(points: Points) -> None:
    points.fill(10)
    points.model({})
    run = points.planned(points.job())
    cancel(points.producer, run, "ann")

    with pytest.raises(UsageError, match="was cancelled"):
        requeue(points.producer, run, "ann")
    with pytest.raises(UnknownName, match="no run 4711"):
        requeue(points.producer, 4711, "ann")


def test_rows_that_were_deleted_since_are_no_trouble(points: Points, partial: tuple[Job, int]) -> None:
    job, run = partial
    points.sql("DELETE FROM points WHERE id IN (5, 95)")
    points.sql("DELETE FROM predictions.points_job__poison_v1 WHERE id IN (5, 95)")

    requeue(points.producer, run, "ann")

    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_a_failed_run_waits_while_another_run_of_the_job_is_open(points: Points, partial: tuple[Job, int]) -> None:
    job, run = partial
    points.sql("INSERT INTO points VALUES (101, 101.5)")
    other = points.planned(job)

    with pytest.raises(UsageError, match=f"run {other} of job"):
        requeue(points.producer, run, "ann")

    assert len(points.aside(job)) == len(BAD)
    points.work(other)
    requeue(points.producer, run, "ann")
    points.work(run)
    assert_accounted(points.engine, job, {})


def test_a_model_version_that_is_gone_says_so_and_loses_nothing(points: Points, partial: tuple[Job, int]) -> None:
    job, run = partial
    (points.settings.artifacts / MODEL).rename(points.folder / "gone")
    points.runtime = Runtime(points.settings, name="w2")

    requeue(points.producer, run, "ann")

    assert points.work(run) is RunState.PARTIAL
    assert "is not there: restore the folder" in points.batches(run, "error")[-1]
    (points.folder / "gone").rename(points.settings.artifacts / MODEL)
    requeue(points.producer, run, "ann")
    points.work(run)
    assert_accounted(points.engine, job, dict.fromkeys(BAD, "ValueError"))


NASTY = {"a quote": 'it\'s "so"', "lines": "a\nb\r\n\tc", "empty": "", "a path": "\\x00%s{}", "2 kB": "é" * 1000}


@pytest.mark.parametrize("case", NASTY)
def test_a_bad_row_with_a_nasty_key_is_put_aside_and_taken_back(points: Points, case: str) -> None:
    points.sql("CREATE TABLE points (id text PRIMARY KEY, x float8)")
    points.sql("INSERT INTO points SELECT 'k' || i, i + 0.5 FROM generate_series(1, 50) i")
    points.sql("INSERT INTO points VALUES (:key, 99.5)", key=NASTY[case])
    points.model({"raise": [99]})
    job = points.job(batch_rows=20)

    run = points.scored(job)
    assert_accounted(points.engine, job, {NASTY[case]: "ValueError"})
    again = points.scored(job)
    points.mend()
    requeue(points.producer, run, "ann")

    assert points.batches(again) == []
    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


UNREADABLE = "caf\udce9 \0 \ud800"


def complain() -> None:
    raise ValueError(UNREADABLE)


complain.__code__ = complain.__code__.replace(co_filename="caf\udce9.py")


@pytest.mark.parametrize("rows", [3, 100], ids=["rows", "all"])
def test_an_error_that_is_no_text_for_postgresql_is_stored_as_what_can_be(
    points: Points, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    def predict(self: poison.Poison, given: Any) -> Any:
        if given.num_rows and given.column(0).to_numpy().min() < rows + 1:
            complain()
        return real(self, given)

    points.fill(100)
    points.model({})
    real = poison.Poison.predict
    monkeypatch.setattr(poison.Poison, "predict", predict)
    job = points.job()

    run = points.scored(job)

    told = points.aside(job, "z.error") or points.batches(run, "error")
    assert all("caf\\udce9 \\0 \\ud800" in one for one in told)
    assert len(told) == (rows if rows < 100 else 1)
    assert all("caf\\udce9" in one for one in points.aside(job, "z.traceback"))
    monkeypatch.undo()
    assert requeue(points.producer, run, "ann", error="caf\\udce9") == 1
    points.work(run)
    assert_accounted(points.engine, job, {})


def test_a_requeued_row_is_scored_once_although_its_batch_is_requeued_too(
    points: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    points.fill(100)
    points.model({"raise": [5, 6]})
    job = points.job(error_threshold=-1)
    run = points.scored(job)
    points.sql("UPDATE scorebeat.batches SET state = 'dead', attempts_left = 0, error = 'Broken: oh'")
    points.sql("DELETE FROM predictions.points_job__poison_v1 WHERE id > 50")
    points.mend()
    requeue(points.producer, run, "ann")
    overtaken(points, monkeypatch, run)

    points.work(run)

    assert points.run(run).state is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_two_batches_that_hold_the_same_row_score_it_once(points: Points, monkeypatch: pytest.MonkeyPatch) -> None:
    points.fill(100)
    points.model({"raise": [5, 6]})
    job = points.job(error_threshold=-1)
    run = points.scored(job)
    points.mend()
    requeue(points.producer, run, "ann", error="does not like")
    points.sql("UPDATE scorebeat.batches SET state = 'dead', attempts_left = 0, error = 'Broken: oh' WHERE number = 1")
    requeue(points.producer, run, "ben")
    assert len(points.pending(run)) == 2
    overtaken(points, monkeypatch, run)

    points.work(run)

    assert points.run(run).state is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def overtaken(points: Points, monkeypatch: pytest.MonkeyPatch, run: int) -> None:
    """When the first of the run's pending batches has fetched its rows, another worker scores all others."""
    real = columns.fetch

    def fetch(*arguments: Any) -> Any:
        monkeypatch.setattr(columns, "fetch", real)
        fetched = real(*arguments)
        other = Runtime(points.settings, name="w2", _models=points.runtime._models)
        assert {score_batch(one, other) for one in points.pending(run)} <= {Outcome.COMMITTED}
        other.close()
        return fetched

    monkeypatch.setattr(columns, "fetch", fetch)
