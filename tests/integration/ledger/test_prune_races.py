"""Work that begins during a prune goes first: a row that comes back, a run that opens, a requeue, a new query."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from scorebeat.core.jobs.job import Job
from scorebeat.db.predictions import orphans
from scorebeat.db.records import retention as pruning
from scorebeat.producer.requests.requeue import requeue
from tests.support.cli_fixtures import Cli
from tests.support.ledger_fixtures import FILL, Ledger, ledger, trained
from tests.support.ledger_rows import a_job
from tests.support.old_rows import SOME, aged, fail_rows, job

pytestmark = pytest.mark.wide

__all__ = ["job", "ledger", "trained"]

BACK = "INSERT INTO items SELECT n, 5, 3 FROM unnest(ARRAY[1, 2]) AS n"


def just_before(monkeypatch: pytest.MonkeyPatch, module: Any, step: str, happens: Callable[[], object]) -> None:
    """Another connection does and commits something, once, right before this step of the prune."""
    real = getattr(module, step)
    todo = [happens]

    def stepped(*arguments: Any) -> Any:
        if todo:
            todo.pop()()
        return real(*arguments)

    monkeypatch.setattr(module, step, stepped)


def right_after(monkeypatch: pytest.MonkeyPatch, module: Any, step: str, happens: Callable[[], object]) -> None:
    real = getattr(module, step)
    todo = [happens]

    def stepped(*arguments: Any) -> Any:
        found = real(*arguments)
        if todo:
            todo.pop()()
        return found

    monkeypatch.setattr(module, step, stepped)


def pruned(scorebeat: Cli, *more: str) -> str:
    """The notes of the prune."""
    result = scorebeat("prune", "--older-than", "90d", *more)
    assert result.exit_code == 0, result.output
    return result.stderr


def test_a_row_that_comes_back_before_the_deletion_keeps_its_prediction(
    scorebeat: Cli, ledger: Ledger, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = ledger.target(ledger.scored(job)).table
    aged(ledger, table)
    ledger.sql("DELETE FROM items WHERE id <= 3")

    just_before(monkeypatch, orphans, "delete_predictions", lambda: ledger.sql(BACK))
    pruned(scorebeat)

    assert ledger.sql(f"SELECT id FROM {table} WHERE id <= 4 ORDER BY id") == [1, 2, 4]


def test_a_row_that_comes_back_before_the_deletion_stays_in_quarantine(
    scorebeat: Cli, ledger: Ledger, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_rows(ledger, ledger.scored(job), 1, 2, 3)
    aged(ledger)
    ledger.sql("DELETE FROM items WHERE id <= 3")

    just_before(monkeypatch, orphans, "delete_quarantined", lambda: ledger.sql(BACK))
    pruned(scorebeat)

    assert ledger.sql("SELECT key ->> 0 FROM scorebeat.quarantine ORDER BY id") == ["1", "2"]


BEGINS: dict[str, Callable[[Ledger, Job], object]] = {
    "a run is opened": lambda ledger, job: ledger.enqueue(job),
    "its query changes": lambda ledger, job: ledger.apply(job.model_copy(update={"query": f"{SOME} WHERE id > 0"})),
    "it leaves the file": lambda ledger, _: ledger.sql("UPDATE scorebeat.jobs SET removed_at = now()"),
}


@pytest.mark.parametrize("what", BEGINS)
def test_a_job_that_stirs_after_the_look_keeps_what_it_has(
    what: str, scorebeat: Cli, ledger: Ledger, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = ledger.scored(job)
    table = ledger.target(run_id).table
    fail_rows(ledger, run_id, 2)
    aged(ledger, table)
    ledger.sql("DELETE FROM items WHERE id <= 2")

    right_after(monkeypatch, orphans, "quarantined", lambda: BEGINS[what](ledger, job))
    output = pruned(scorebeat)

    assert "job flowers_job got a run or was changed meanwhile" in output
    assert ledger.sql(f"SELECT count(*) FROM {table} WHERE id = 1") == [1]
    assert ledger.sql("SELECT count(*) FROM scorebeat.quarantine") == [1]


def test_a_job_that_somebody_is_about_to_run_keeps_what_it_has(scorebeat: Cli, ledger: Ledger, job: Job) -> None:
    table = ledger.target(ledger.scored(job)).table
    aged(ledger, table)
    ledger.sql("DELETE FROM items WHERE id = 1")

    with ledger.runtime.engine.begin() as enqueuing:
        enqueuing.execute(text("SELECT 1 FROM scorebeat.jobs FOR UPDATE"))
        pruned(scorebeat)

    assert ledger.sql(f"SELECT count(*) FROM {table} WHERE id = 1") == [1]
    pruned(scorebeat)
    assert ledger.sql(f"SELECT count(*) FROM {table} WHERE id = 1") == [0]


@pytest.fixture
def old_run(ledger: Ledger) -> int:
    """A run with a dead batch over a generation that the next prune takes."""
    ledger.sql(FILL.format(first=1, last=20))
    job = a_job(rescore="every-run", keep=2)
    run_id = ledger.scored(job)
    ledger.scored(job)
    ledger.new_version(2)
    ledger.sql("UPDATE scorebeat.model_versions SET retired_at = now() WHERE version = 1")
    ledger.sql("UPDATE scorebeat.model_versions SET published_at = now() WHERE version = 2")
    ledger.scored(job)
    aged(ledger)
    ledger.sql(f"UPDATE scorebeat.runs SET state = 'partial' WHERE id = {run_id}")
    ledger.sql(
        "UPDATE scorebeat.batches SET state = 'dead', error = 'oh', rows_scored = 0"
        f" WHERE run_id = {run_id} AND number = 1"
    )
    ledger.sql(f"DELETE FROM {ledger.target(run_id).table} WHERE id <= 10")
    return run_id


def rows_of(ledger: Ledger, run_id: int) -> int | None:
    """Of the run's generation; None when its table is gone."""
    table = ledger.target(run_id).table
    if ledger.sql("SELECT to_regclass(:name) IS NULL", name=table) == [True]:
        return None
    return int(ledger.sql(f"SELECT count(*) FROM {table}")[0])


def test_a_generation_whose_run_is_requeued_after_the_look_stays(
    scorebeat: Cli, ledger: Ledger, old_run: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    right_after(monkeypatch, pruning, "old_generations", lambda: requeue(ledger.producer, old_run, "test"))

    output = pruned(scorebeat)

    assert f"{ledger.target(old_run).table} was left alone: a run may need it now" in output
    ledger.score(old_run)
    assert rows_of(ledger, old_run) == 20


@pytest.mark.parametrize("held", ["runs", "jobs"])
def test_a_generation_whose_run_or_job_is_in_other_hands_stays_until_they_let_go(
    held: str, scorebeat: Cli, ledger: Ledger, old_run: int
) -> None:
    with ledger.runtime.engine.begin() as other:
        other.execute(text(f"SELECT 1 FROM scorebeat.{held} FOR UPDATE"))
        output = pruned(scorebeat)

    assert "was left alone: a run may need it now" in output
    assert rows_of(ledger, old_run) == 10
    pruned(scorebeat)
    assert rows_of(ledger, old_run) is None


@pytest.mark.parametrize(("gone", "left"), [(3, 27), (4, 30)])
def test_more_than_a_tenth_is_deleted_only_when_requested(
    scorebeat: Cli, ledger: Ledger, job: Job, gone: int, left: int
) -> None:
    table = ledger.target(ledger.scored(job)).table
    aged(ledger, table)
    ledger.sql(f"DELETE FROM items WHERE id <= {gone}")

    output = pruned(scorebeat)

    command = ("prune", "--job", "flowers_job", "--older-than", "90d", "--even-most")
    assert ("more than 10%" in output and f"`scorebeat {' '.join(command)}`" in output) == (left == 30)
    assert ledger.sql(f"SELECT count(*) FROM {table}") == [left]
    assert scorebeat(*command).exit_code == 0
    assert ledger.sql(f"SELECT count(*) FROM {table}") == [30 - gone]
