"""An every-run job scores all rows anew in each run, and shows a generation only when it is whole."""

import pytest

from scorebeat.core.jobs.job import Job
from scorebeat.db.ledger.runs import Selection
from scorebeat.db.predictions import views
from scorebeat.producer.control.control_round import run_once
from scorebeat.producer.control.upkeep.settle import build_keys
from scorebeat.producer.requests.requeue import cancel
from scorebeat.producer.versions.publish import publish_anyway
from scorebeat.worker.scoring.score import score_batch
from tests.support.ledger_fixtures import FILL, Ledger, ledger, trained
from tests.support.ledger_rows import a_job

pytestmark = pytest.mark.wide

__all__ = ["ledger", "trained"]

VIEW = "predictions.flowers_job"
SETS = "SELECT generation, complete_at IS NOT NULL, dropped_at IS NOT NULL FROM scorebeat.prediction_sets ORDER BY id"


@pytest.fixture
def job(ledger: Ledger) -> Job:
    ledger.sql(FILL.format(first=1, last=25))
    return a_job(rescore="every-run")


def shown(ledger: Ledger) -> int:
    return int(ledger.sql(f"SELECT count(*) FROM {VIEW}")[0])


def tables(ledger: Ledger) -> list[str]:
    return ledger.sql(
        "SELECT relname FROM pg_class WHERE relnamespace = 'predictions'::regnamespace AND relkind = 'r' ORDER BY oid"
    )


def test_each_run_scores_every_row_into_a_generation_of_its_own(ledger: Ledger, job: Job) -> None:
    first = ledger.scored(job)
    ledger.sql("UPDATE items SET a = a + 1")
    second = ledger.scored(job)

    assert [ledger.target(run).generation for run in (first, second)] == [1, 2]
    assert ledger.check_exact("SELECT * FROM items", VIEW, "id") == 25
    was = "SELECT id, a - 1 AS a, b FROM items"
    assert ledger.check_exact(was, ledger.target(first).table, "id") == 25


def test_a_generation_is_shown_only_when_its_run_succeeded(ledger: Ledger, job: Job) -> None:
    ledger.scored(job)
    ledger.sql(FILL.format(first=26, last=45))
    run_id = ledger.planned(job)
    seen = []

    for batch_id in ledger.batch_ids(run_id):
        seen.append(shown(ledger))
        score_batch(batch_id, ledger.runtime)

    assert seen == [25] * 5
    assert shown(ledger) == 45


def test_before_the_first_run_ends_the_view_is_there_and_empty(ledger: Ledger, job: Job) -> None:
    run_id = ledger.planned(job)

    assert shown(ledger) == 0
    ledger.score(run_id)
    assert shown(ledger) == 25


def test_a_run_that_does_not_end_well_changes_nothing_for_readers(ledger: Ledger, job: Job) -> None:
    ledger.scored(job)
    ledger.sql("UPDATE items SET a = a + 1")
    run_id = ledger.planned(job)
    score_batch(ledger.batch_ids(run_id)[0], ledger.runtime)

    cancel(ledger.producer, run_id, "ann")

    was = "SELECT id, a - 1 AS a, b FROM items"
    assert ledger.check_exact(was, VIEW, "id") == 25


def test_the_run_after_one_that_did_not_end_well_scores_every_row_anew(ledger: Ledger, job: Job) -> None:
    cut = ledger.planned(job)
    score_batch(ledger.batch_ids(cut)[0], ledger.runtime)
    cancel(ledger.producer, cut, "ann")
    ledger.sql("UPDATE items SET a = a + 1")

    run_id = ledger.scored(job)

    assert [ledger.target(run).generation for run in (cut, run_id)] == [1, 2]
    assert ledger.check_exact("SELECT * FROM items", VIEW, "id") == 25


def test_generations_that_nobody_completed_do_not_pile_up(ledger: Ledger, job: Job) -> None:
    ledger.scored(job)
    for _ in range(5):
        cancel(ledger.producer, ledger.planned(job), "ann")

    assert tables(ledger) == [f"flowers_job__flowers_v1_g{n}" for n in (0, 1, 3, 4, 5, 6)]
    assert shown(ledger) == 25


def test_three_generations_are_kept(ledger: Ledger, job: Job) -> None:
    for _ in range(5):
        ledger.scored(job)

    assert tables(ledger) == [f"flowers_job__flowers_v1_g{n}" for n in (3, 4, 5)]
    assert [row for row in ledger.sql(SETS) if row[0] > 0] == [
        (1, True, True),
        (2, True, True),
        (3, True, False),
        (4, True, False),
        (5, True, False),
    ]


def test_as_many_generations_are_kept_as_the_job_sets(ledger: Ledger, job: Job) -> None:
    one = job.model_copy(update={"keep": 1})

    for _ in range(3):
        ledger.scored(one)

    assert tables(ledger) == ["flowers_job__flowers_v1_g3"]
    assert shown(ledger) == 25


def test_an_incremental_job_keeps_one_set_and_scores_a_row_once_a_version(ledger: Ledger, job: Job) -> None:
    once = job.model_copy(update={"rescore": "never"})
    ledger.scored(once)
    ledger.sql("UPDATE items SET a = a + 1")

    again = ledger.scored(once)

    assert ledger.batch_ids(again) == []
    assert tables(ledger) == ["flowers_job__flowers_v1"]


def test_a_generation_of_a_version_that_is_not_published_any_more_is_not_shown(ledger: Ledger, job: Job) -> None:

    ledger.scored(job)
    run_id = ledger.planned(job)
    ledger.new_version(2)
    publish_anyway(ledger.producer, "flowers", 2, "ann")

    ledger.score(run_id)

    assert ledger.run(run_id).state == "succeeded"
    assert shown(ledger) == 0


def test_a_job_may_change_its_mind_about_scoring_every_row(ledger: Ledger, job: Job) -> None:
    for _ in range(5):
        ledger.scored(job)
    once = job.model_copy(update={"rescore": "never"})
    ledger.sql(FILL.format(first=26, last=30))

    last = ledger.scored(once)

    assert len(ledger.batch_ids(last)) == 1
    assert ledger.check_exact("SELECT * FROM items", VIEW, "id") == 30
    ledger.scored(job)
    assert shown(ledger) == 30


def test_a_reader_of_an_old_generation_is_left_alone_and_holds_up_nobody(ledger: Ledger, job: Job) -> None:
    first = ledger.scored(job.model_copy(update={"keep": 1}))
    old = ledger.target(first).table

    with ledger.runtime.engine.connect() as reader:
        reader.exec_driver_sql(f"SELECT * FROM {old} LIMIT 1")
        second = ledger.planned(job.model_copy(update={"keep": 1}))
        other = Ledger(ledger.producer, ledger.trained, ledger.settings)
        other.score(second)

    assert ledger.run(second).state == "succeeded"
    assert "flowers_job__flowers_v1_g1" in tables(ledger)
    ledger.scored(job.model_copy(update={"keep": 1}))
    assert tables(ledger) == ["flowers_job__flowers_v1_g3"]
    other.runtime.close()


def test_a_run_whose_view_is_being_read_ends_when_the_reader_does(
    ledger: Ledger, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "LOCK_TIMEOUT", "100ms")
    monkeypatch.setattr(views, "TRIES", 1)
    ledger.scored(job)
    run_id = ledger.planned(job)

    with ledger.producer.engine.connect() as reader:
        reader.exec_driver_sql(f"SELECT count(*) FROM {VIEW}")
        ledger.sql(
            "UPDATE scorebeat.batches SET state = 'committed', sent_at = NULL, finished_at = now(), rows_scored = 10"
        )
        busy = run_once(ledger.producer).settled + build_keys(ledger.producer)

    assert (busy, ledger.run(run_id).state) == (0, "running")
    assert run_once(ledger.producer).settled == 1


@pytest.mark.quick
def test_a_run_that_finds_no_row_fails_and_readers_keep_what_they_see(ledger: Ledger, job: Job) -> None:
    ledger.scored(job)
    ledger.sql("DELETE FROM items")  # as while it is loaded anew

    run_id = ledger.planned(job)

    run = ledger.run(run_id)
    assert (run.state, shown(ledger)) == ("failed", 25)
    reason = str(run.reason)
    assert reason.startswith("the query gave no row, and readers would lose all predictions of before, which stay.")
    assert "`scorebeat enqueue flowers_job --rescore`" in reason
    ledger.sql(FILL.format(first=1, last=30))
    ledger.scored(job)
    assert ledger.check_exact("SELECT * FROM items", VIEW, "id") == 30


def test_a_run_whose_rows_are_gone_when_its_batches_are_fetched_fails_too(ledger: Ledger, job: Job) -> None:
    ledger.scored(job)
    run_id = ledger.planned(job)
    ledger.sql("DELETE FROM items")

    ledger.score(run_id)

    assert (ledger.run(run_id).state, shown(ledger)) == ("failed", 25)


def test_a_run_by_which_readers_lose_nothing_may_find_no_row(ledger: Ledger, job: Job) -> None:
    empty = job.model_copy(update={"allow_empty": True})
    ledger.sql("DELETE FROM items")
    first = ledger.scored(job)
    assert ledger.run(first).reason is None
    ledger.sql(FILL.format(first=1, last=25))
    ledger.scored(job)
    ledger.new_version(2)
    ledger.sql("DELETE FROM items")

    other = ledger.planned(job, version=2)  # readers see another version
    some = ledger.planned(job, selection=Selection(limit=5))  # it is never shown
    assert [ledger.run(run_id).state for run_id in (other, some)] == ["succeeded", "succeeded"]
    assert shown(ledger) == 25
    ledger.scored(empty)  # the job allows this
    assert shown(ledger) == 0
    assert ledger.run(ledger.planned(job)).state == "succeeded"  # and then there is nothing more to lose
