"""A ledger whose rows are old, and what `prune` reports."""

import json

import pytest

from scorebeat.core.jobs.job import Job
from tests.support.cli_fixtures import Cli
from tests.support.ledger_fixtures import FILL, Ledger
from tests.support.ledger_rows import a_job

OLD = "now() - interval '100 days'"
SOME = "SELECT id, a, b FROM items"


def aged(ledger: Ledger, *tables: str) -> None:
    """Everything in the ledger, and in these tables, is 100 days old."""
    ledger.sql(f"UPDATE scorebeat.runs SET created_at = {OLD}, finished_at = {OLD}, noted_at = NULL")
    ledger.sql(f"UPDATE scorebeat.quarantine SET quarantined_at = {OLD}")
    ledger.sql(f"UPDATE scorebeat.prediction_sets SET created_at = {OLD}")
    ledger.sql(f"UPDATE scorebeat.actions SET at = {OLD}")
    for table in tables:
        ledger.sql(f"UPDATE {table} SET scored_at = {OLD}")


def prune(scorebeat: Cli, *options: str) -> dict[str, int]:
    """The command's counts; a dry run before it reports the same and changes nothing."""
    counts = []
    for more in (("--dry-run",), ()):
        result = scorebeat("prune", "--older-than", "90d", "--json", *options, *more)
        assert result.exit_code == 0, result.output
        counts.append({row["kind"]: row["count"] for row in json.loads(result.stdout)})
    assert counts[0] == counts[1]
    return {kind: number for kind, number in counts[1].items() if number}


@pytest.fixture
def job(ledger: Ledger) -> Job:
    ledger.sql(FILL.format(first=1, last=30))
    return a_job()


def fail_rows(ledger: Ledger, run_id: int, *keys: int) -> None:
    """These rows of the run are in quarantine instead of among the predictions."""
    target = ledger.target(run_id)
    for key in keys:
        ((batch_id,),) = [ledger.sql(f"DELETE FROM {target.table} WHERE id = {key} RETURNING batch_id")]
        ledger.sql(
            "INSERT INTO scorebeat.quarantine (prediction_set_id, batch_id, key, error_type, error, traceback)"
            f" VALUES ({target.id}, {batch_id}, '[\"{key}\"]', 'Bad', 'oh', 'Traceback: line 1')"
        )
        ledger.sql(
            "UPDATE scorebeat.batches SET rows_scored = rows_scored - 1, rows_failed = rows_failed + 1"
            f" WHERE id = {batch_id}"
        )
