"""A worker that outlived its claim writes nothing, and each row is scored once."""

from datetime import timedelta
from typing import Any

import pytest

from scorebeat.core.errors import ClaimLost
from scorebeat.db.batch_io import columns
from scorebeat.db.batch_io.columns import Part, Timing
from scorebeat.db.ledger import batches
from scorebeat.db.ledger.batches import BatchId, Claim
from scorebeat.db.predictions import table_types
from scorebeat.worker.scoring.score import Outcome, score_batch
from tests.support.ledger_fixtures import FILL, Ledger, ledger, trained
from tests.support.ledger_rows import a_job

__all__ = ["ledger", "trained"]


@pytest.fixture
def one_batch(ledger: Ledger) -> tuple[int, BatchId]:
    ledger.sql(FILL.format(first=1, last=10))
    run_id = ledger.planned(a_job())
    return run_id, ledger.batch_ids(run_id)[0]


def claimed(ledger: Ledger, batch_id: BatchId, worker: str, ttl: timedelta) -> Claim:
    with ledger.engine.begin() as connection:
        held = batches.claim(connection, batch_id, worker, ttl)
    assert held is not None
    return held


def slow_and_rescued(ledger: Ledger, batch_id: BatchId) -> Claim:
    """A claim that expired at once; the batch is pending again."""
    held = claimed(ledger, batch_id, "slow", timedelta(0))
    with ledger.engine.begin() as connection:
        batches.rescue(connection)
    return held


def test_a_worker_that_outlives_its_claim_cannot_commit(
    ledger: Ledger, one_batch: tuple[int, BatchId], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, batch_id = one_batch
    reasons: list[str] = []
    real = columns.commit

    def commit_late(*arguments: Any) -> bool:
        monkeypatch.setattr(columns, "commit", real)
        ledger.sql("UPDATE scorebeat.batches SET claim_expires_at = now() - interval '1 s'")
        with ledger.engine.begin() as connection:
            batches.rescue(connection)
        with pytest.raises(ClaimLost) as lost:
            real(*arguments)
        reasons.append(str(lost.value))
        raise lost.value

    monkeypatch.setattr(columns, "commit", commit_late)

    outcome = score_batch(batch_id, ledger.runtime)

    assert outcome is Outcome.LOST
    assert reasons[0].startswith(f"batch {batch_id}: attempt 1 no longer holds the claim; its 10 predictions")
    assert ledger.sql(f"SELECT count(*) FROM {ledger.target(run_id).table}") == [0]
    assert ledger.batch(batch_id)["state"] == "pending"


def test_after_a_late_worker_each_row_is_still_scored_once(ledger: Ledger, one_batch: tuple[int, BatchId]) -> None:
    run_id, batch_id = one_batch
    slow_and_rescued(ledger, batch_id)

    outcomes = [score_batch(batch_id, ledger.runtime), score_batch(batch_id, ledger.runtime)]

    assert outcomes == [Outcome.COMMITTED, Outcome.SKIPPED]
    assert ledger.check_exact("SELECT * FROM items", ledger.target(run_id).table, "id") == 10
    assert ledger.run(run_id).state == "succeeded"


def test_a_stale_attempt_writes_no_predictions_even_while_another_holds_the_batch(
    ledger: Ledger, one_batch: tuple[int, BatchId]
) -> None:
    run_id, batch_id = one_batch
    slow = slow_and_rescued(ledger, batch_id)
    claimed(ledger, batch_id, "fast", timedelta(minutes=1))
    target, w = ledger.target(run_id), ledger.runtime
    predictions = table_types.table_types(w.data, target).schema.empty_table()

    with pytest.raises(ClaimLost, match="attempt 1"):
        columns.commit(w.data, slow, target, Part(predictions), Timing(0, 0))

    assert ledger.batch(batch_id)["state"] == "claimed"
