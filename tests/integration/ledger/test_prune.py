"""Pruning takes what is old and unused, reports how much, and never takes what an open run or a reader needs."""

import pytest

from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.db.closing import atomic_runs, run_totals
from scorebeat.db.reports import status
from tests.support.cli_fixtures import Cli
from tests.support.ledger_fixtures import Ledger, ledger, trained
from tests.support.old_rows import OLD, SOME, aged, fail_rows, job, prune

__all__ = ["job", "ledger", "trained"]


def test_old_batches_go_and_their_run_keeps_its_counts(scorebeat: Cli, ledger: Ledger, job: Job) -> None:
    run_id = ledger.scored(job)
    with ledger.engine.connect() as connection:
        before = status.get(connection, run_id)
        by_version = status.rows_scored_by(connection)
    (shown,) = ledger.sql("SELECT (b.rows_planned, b.rows_scored, b.batches)::text FROM scorebeat.run_status b")
    aged(ledger)

    assert prune(scorebeat) == {"batches": 2, "profiles of runs": 1}  # the highest stays

    with ledger.engine.connect() as connection:
        after = status.get(connection, run_id)
        assert status.rows_scored_by(connection) == by_version
    assert (after.rows_planned, after.rows_scored, after.batches) == (30, 30, 3)
    assert (after.rows_planned, after.rows_scored) == (before.rows_planned, before.rows_scored)
    assert ledger.sql("SELECT (b.rows_planned, b.rows_scored, b.batches)::text FROM scorebeat.run_status b") == [shown]
    assert ledger.sql(f"SELECT count(*) FROM {ledger.target(run_id).table}") == [30]
    assert ledger.sql("SELECT details ->> 'batches' FROM scorebeat.actions WHERE action = 'ledger.pruned'") == ["2"]
    assert prune(scorebeat) == {}


@pytest.mark.parametrize("state", ["partial", "failed"])
def test_a_run_that_may_be_requeued_keeps_all_its_batches(scorebeat: Cli, ledger: Ledger, job: Job, state: str) -> None:
    run_id = ledger.scored(job)
    ledger.sql(f"UPDATE scorebeat.runs SET state = '{state}', reason = 'a dead batch' WHERE id = {run_id}")
    aged(ledger)

    assert prune(scorebeat) == {"profiles of runs": 1}
    assert ledger.sql(f"SELECT count(*) FROM scorebeat.batches WHERE run_id = {run_id}") == [3]


def test_young_rows_stay(scorebeat: Cli, ledger: Ledger, job: Job) -> None:
    run_id = ledger.scored(job)
    fail_rows(ledger, run_id, 1)
    ledger.sql("DELETE FROM items WHERE id = 2")

    assert prune(scorebeat) == {}

    assert len(ledger.batch_ids(run_id)) == 3


def test_an_open_run_and_its_predictions_are_left_alone(scorebeat: Cli, ledger: Ledger, job: Job) -> None:
    run_id = ledger.planned(job)
    ledger.sql(f"UPDATE scorebeat.runs SET created_at = {OLD}")
    ledger.sql("DELETE FROM items WHERE id = 2")

    result = scorebeat("prune", "--older-than", "1s")

    assert "job flowers_job has an open run; its predictions were left alone" in result.stderr
    assert len(ledger.batch_ids(run_id)) == 3
    ledger.score(run_id)
    assert ledger.run(run_id).state is RunState.SUCCEEDED
    assert ledger.check_exact(SOME, "predictions.flowers_job", "id") == 29


def test_a_quarantined_row_keeps_its_batch_and_its_error_but_not_its_traceback(
    scorebeat: Cli, ledger: Ledger, job: Job
) -> None:
    run_id = ledger.scored(job)
    fail_rows(ledger, run_id, 5)
    aged(ledger)

    assert prune(scorebeat) == {"batches": 1, "tracebacks": 1, "profiles of runs": 1}

    assert ledger.sql("SELECT error_type, error, traceback FROM scorebeat.quarantine") == [("Bad", "oh", None)]
    ledger.sql("UPDATE scorebeat.runs SET state = 'partial'")
    assert scorebeat("requeue", str(run_id)).exit_code == 0
    ledger.score(run_id)
    with ledger.engine.connect() as connection:
        line = status.get(connection, run_id)
    assert (line.state, line.rows_scored, line.rows_failed) == ("succeeded", 30, 0)
    assert ledger.check_exact(SOME, "predictions.flowers_job", "id") == 30


def test_a_requeued_run_that_was_pruned_is_counted_whole(scorebeat: Cli, ledger: Ledger, job: Job) -> None:
    run_id = ledger.scored(job)
    fail_rows(ledger, run_id, 5)
    aged(ledger)
    prune(scorebeat)

    with ledger.engine.begin() as connection:
        run_totals.note(connection)

    assert ledger.sql("SELECT rows_scored, attempts FROM scorebeat.run_sums") == [(29, 3)]


def test_a_job_that_becomes_shown_whole_after_a_prune_still_shows_what_it_had(
    scorebeat: Cli, ledger: Ledger, job: Job
) -> None:
    run_id = ledger.scored(job)
    aged(ledger)
    prune(scorebeat)

    with ledger.engine.begin() as connection:
        atomic_runs.hide_what_comes(connection, ledger.target(run_id))

    assert ledger.sql("SELECT count(*) FROM predictions.flowers_job") == [30]


def test_old_notices_and_skipped_ticks_go_and_other_actions_stay(scorebeat: Cli, ledger: Ledger, job: Job) -> None:
    run_id = ledger.scored(job)
    for action in ("tick.skipped", "job.paused"):
        ledger.sql(f"INSERT INTO scorebeat.actions (by, action, subject) VALUES ('x', '{action}', 'job x')")
    for column in ("delivered_at", "given_up_at", "created_at"):
        ledger.sql(
            f"INSERT INTO scorebeat.notices (run_id, event, happened_at, {column})"
            f" VALUES ({run_id}, 'finished', now() - interval '{len(column)} s', {OLD})"
        )
    aged(ledger)

    counts = prune(scorebeat)

    assert (counts["notices"], counts["skipped ticks"]) == (2, 1)
    assert ledger.sql("SELECT count(*) FROM scorebeat.notices") == [1]  # it was never delivered
    assert "job.paused" in ledger.sql("SELECT action FROM scorebeat.actions")


@pytest.mark.parametrize("value", ["90", "0d", "soon", "-1d", ""])
def test_a_duration_that_is_none_is_refused(scorebeat: Cli, value: str) -> None:
    result = scorebeat("prune", "--older-than", value)

    assert result.exit_code == 2
    assert "--older-than" in result.stderr


def test_a_piece_at_a_time_takes_all(scorebeat: Cli, ledger: Ledger, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scorebeat.db.records.retention.PIECE", 1)
    monkeypatch.setattr("scorebeat.db.predictions.orphans.PIECE", 2)
    run_id = ledger.scored(job)
    table = ledger.target(run_id).table
    aged(ledger, table)
    ledger.sql("DELETE FROM items WHERE id <= 5")

    assert prune(scorebeat, "--even-most") == {
        "batches": 2,
        "profiles of runs": 1,
        "predictions without a source row": 5,
    }

    assert ledger.sql("SELECT (batches, rows_planned, attempts)::text FROM scorebeat.pruned_batches") == ["(2,20,2)"]
