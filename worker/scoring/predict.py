"""Predictions for fetched rows: the columns are bound to the model's inputs, and the outputs are checked."""

import pyarrow as pa

from scorebeat.core.errors import DeviceMemoryError
from scorebeat.db.ledger.batches import Claim
from scorebeat.models.outputs import checks
from scorebeat.worker.scoring.attempt import Attempt
from scorebeat.worker.scoring.isolate import Scored


def predict_rows(attempt: Attempt, rows: pa.RecordBatch) -> pa.RecordBatch:
    """Query columns in, checked outputs out; no transaction is open here. Raises what the model raises."""
    scored = attempt.model.predict(attempt.job.binding.apply(rows))
    if not attempt.job.run.job.allow_nan:
        checks.check_finite(scored)
    return scored


def require_memory(claim: Claim, scored: Scored) -> None:
    """Raises DeviceMemoryError if no row fitted, not even alone: another process may use the device's memory.

    The last attempt does not raise: then its rows are quarantined.
    """
    failed = [row.error for row in scored.failed if isinstance(row.error, DeviceMemoryError)]
    if failed and len(failed) == len(scored.failed) and not scored.predictions.num_rows and claim.attempts_left:
        raise failed[0]
