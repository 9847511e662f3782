"""Scores rows one by one, each recorded before: if the process dies, the next attempt knows the row that ended it."""

from functools import partial

import pyarrow as pa

from scorebeat.core.errors import ClaimLost
from scorebeat.core.events import emit
from scorebeat.db.batch_io.columns import Fetched
from scorebeat.db.ledger.failures import isolation, quarantine
from scorebeat.db.ledger.failures.quarantine import BadRow
from scorebeat.worker.scoring import predict
from scorebeat.worker.scoring.attempt import Attempt
from scorebeat.worker.scoring.commit import Stored, stop_if_too_many, store
from scorebeat.worker.scoring.isolate import Scored, predict_isolating_failures
from scorebeat.worker.scoring.profile import Profiler
from scorebeat.worker.scoring.refused_rows.bad_rows import bad_row
from scorebeat.worker.scoring.watchdog import within


def score_row_by_row(attempt: Attempt, fetched: Fetched, bad: tuple[BadRow, ...], profiler: Profiler) -> Stored:
    """Score and commit each row alone; then the batch's other rows are scored in chunks again. Raises ClaimLost."""
    total = 0
    predictions: dict[int, pa.RecordBatch] = {}
    predict_rows = partial(predict.predict_rows, attempt)
    for index in range(fetched.rows.num_rows):
        row = quarantine.row_id(fetched.keys, index)
        with attempt.runtime.engine.begin() as connection:
            if not isolation.probe(connection, attempt.claim, row):
                raise ClaimLost(f"{attempt.claim} no longer holds the claim; nothing of it was written")
        with within(attempt.runtime.settings.row_time_limit):
            scored = predict_isolating_failures(predict_rows, fetched.rows.slice(index, 1))
        predict.require_memory(attempt.claim, scored)
        failed = tuple(bad_row(row, one.error) for one in scored.failed)
        keys = fetched.keys.slice(index, 0 if failed else 1)
        total += store(attempt, keys, scored.predictions, failed, None).rows
        if not failed:
            predictions[index] = scored.predictions
    if bad:
        store(attempt, fetched.keys.slice(0, 0), predict_rows(fetched.rows.slice(0, 0)), bad, None)
    if predictions:
        profiler.look_at(fetched.rows, Scored([*predictions], pa.concat_batches(predictions.values())))
    with attempt.runtime.engine.begin() as connection:
        isolation.calm_down(connection, attempt.claim)
    return Stored(total)


def quarantine_deadly_row(attempt: Attempt) -> None:
    """Quarantine the row that the last attempt scored alone when its process died."""
    claim = attempt.claim
    with attempt.runtime.engine.begin() as connection:
        key = isolation.quarantine_probe(connection, claim, attempt.job.target, attempt.key_columns, attempt.budget)
    if key is not None:
        emit(
            "row.quarantined",
            run=claim.run_id,
            batch=claim.batch_id,
            attempt=claim.attempt,
            worker=attempt.runtime.name,
            key=list(key),
            error="ProcessDied",
        )
        stop_if_too_many(attempt)
