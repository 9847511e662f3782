"""A canary: some rows of a job are scored as in a run, checked, and not stored."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from scorebeat.core.errors import ScorebeatError, UsageError
from scorebeat.core.events import emit
from scorebeat.core.jobs.job import Job
from scorebeat.db.batch_io import columns
from scorebeat.db.batch_io.columns import Fetched
from scorebeat.db.connect import locks
from scorebeat.db.connect.sql import Key, KeyRange
from scorebeat.db.ledger import jobs, model_versions
from scorebeat.db.ledger.evidence import canaries
from scorebeat.db.ledger.evidence.canaries import Canary
from scorebeat.db.ledger.failures import quarantine
from scorebeat.db.predictions import prediction_sets
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.source import source
from scorebeat.db.source.selection import planning_cursor
from scorebeat.db.source.selection.pending import PendingRows
from scorebeat.db.source.source import Source
from scorebeat.db.source.values.parameter_values import of_no_run
from scorebeat.models.contract import Signature
from scorebeat.models.inputs.binding import Binding, bind
from scorebeat.models.outputs import checks
from scorebeat.models.trial import likeness
from scorebeat.worker.scoring.isolate import predict_isolating_failures
from scorebeat.worker.scoring.recover import describe
from scorebeat.worker.scoring.refused_rows.null_inputs import without_nulls
from scorebeat.worker.scoring.refused_rows.unfit import without_unfit
from scorebeat.worker.scoring.runtime import Runtime
from scorebeat.worker.scoring.watchdog import within

MOST_DIFFERING = 0.5
"""A greater share of other predictions than the stored ones is no matter of rows that changed since."""


class CanaryFailed(ScorebeatError):
    """The rows of the job show that something is wrong; the message has what."""


@dataclass(frozen=True)
class Findings:
    """What a canary that passed found."""

    model: str
    rows: int
    compared: int
    differing: int


def run_canary(canary_id: int, runtime: Runtime) -> bool | None:
    """Whether all is well with the canary's job, or None if there was nothing to do. What is found is stored."""
    with runtime.engine.begin() as connection:
        canary = canaries.take(connection, canary_id, runtime.name)
    if canary is None:
        return None
    failure, stored = None, {}
    try:
        found = _score_sample(canary, runtime)
    except Exception as error:  # noqa: BLE001 -- whatever it is, a run would meet it too
        failure = describe(error)
    else:
        stored = vars(found)
        emit(
            "canary.passed",
            job=canary.job,
            canary=canary_id,
            worker=runtime.name,
            model=found.model,
            rows=found.rows,
            compared=found.compared,
            differing=found.differing,
        )
    with runtime.engine.begin() as connection:
        canaries.finish(connection, canary_id, failure, **stored)
    return failure is None


@dataclass(frozen=True)
class _Chosen:
    job: Job
    source: Source
    binding: Binding
    target: PredictionSet | None
    keys: list[Key]
    """Keys of stored predictions; empty if there are none."""


def _score_sample(canary: Canary, runtime: Runtime) -> Findings:
    """Raises CanaryFailed, and whatever the query or the model raises."""
    with planning_cursor.reading(runtime.engine) as connection:
        locks.wait_at_most(connection, locks.IN_A_WORKER)
        job = jobs.get(connection, canary.job).job
        if job.canary is None:
            raise UsageError(f"job {canary.job} has no canary any more")
        version = model_versions.of_job(connection, job)
        found = source.read_columns(connection, job, of_no_run(connection))
        target = prediction_sets.shown(connection, job, version.version)
        keys = [] if target is None else canaries.stored_keys(connection, target, found.keys, job.canary.rows)
        binding = bind(Signature.from_json(version.signature), found.columns)
        chosen = _Chosen(job, found, binding, target, keys)
    # it must be loaded anew: its files, its library or the device may have changed
    runtime.forget_model(version)
    model = runtime.model(version)
    fetched = _fetch(chosen, runtime)
    if not fetched.rows.num_rows and chosen.keys:  # its rows are others by now, as those of the last 30 days
        fetched = _fetch(replace(chosen, keys=[]), runtime)
    if not fetched.rows.num_rows:
        raise CanaryFailed("the query gives no rows")
    predict = partial(_predicted, chosen, model.predict)
    with within(runtime.settings.batch_time_limit):
        scored = predict_isolating_failures(predict, fetched.rows)
    failed, allowed = len(scored.failed), job.error_threshold
    if failed and 0 <= allowed < failed / fetched.rows.num_rows:
        raise CanaryFailed(
            f"the model fails for {failed} of {fetched.rows.num_rows} rows, such as "
            f"{quarantine.keys_of(fetched.keys, scored.failed[0].index)}: {describe(scored.failed[0].error)}"
        )
    scored_keys = fetched.keys if scored.indices is None else fetched.keys.take(pa.array(scored.indices, pa.int64()))
    compared, differing = _compare(chosen, runtime, scored_keys, scored.predictions)
    # with `changed_at` only rows that did not change were compared. Without it others may be, if the model has returned
    # just now what its golden rows have, or if each run scores all rows because they change
    may_be_others = chosen.source.changes is None and (
        runtime.golden_rows.get(str(version), 0) > 0 or job.rescore == "every-run"
    )
    if compared and len(differing) / compared > MOST_DIFFERING and not may_be_others:
        raise CanaryFailed(
            f"{len(differing)} of {compared} predictions are not those that are stored, such as "
            f"{differing[0]}: another version of a library, another device, or the inputs of these rows have changed. "
            "With golden rows of the model, or changed_at of the job, the canary can tell which"
        )
    return Findings(str(version), scored.predictions.num_rows, compared, len(differing))


def _fetch(chosen: _Chosen, runtime: Runtime) -> Fetched:
    """The rows of the chosen keys; of a job without predictions the first rows of its query."""
    job, rows = chosen.job, chosen.job.canary.rows if chosen.job.canary is not None else 0
    pending = PendingRows(chosen.source, "", 0, has_quarantine=False)
    listed, span = chosen.keys or None, None
    if listed is not None:
        span = KeyRange(listed[0], listed[0])
    else:
        with planning_cursor.reading(runtime.engine) as connection:
            span = planning_cursor.whole_range(connection, pending)
    if span is None:
        raise CanaryFailed("the query gives no rows")
    statement = pending.batch(chosen.binding.columns, span, rows, anti_join=False, listed=listed)
    name = f"scorebeat {runtime.name} canary"
    fetched = columns.fetch_once(runtime.url, name, statement, chosen.source, rows, job.batch_bytes)
    fetched, _ = without_unfit(fetched, job.out_of_range)
    return without_nulls(fetched)[0] if job.null_inputs == "quarantine" else fetched


def _predicted(
    chosen: _Chosen, predict: Callable[[pa.RecordBatch], pa.RecordBatch], rows: pa.RecordBatch
) -> pa.RecordBatch:
    scored = predict(chosen.binding.apply(rows))
    if not chosen.job.allow_nan:
        checks.check_finite(scored)
    return scored


def _number(value: Any) -> Decimal | None:
    return None if value is None else Decimal(value)


def _compare(
    chosen: _Chosen, runtime: Runtime, keys: pa.RecordBatch, predicted: pa.RecordBatch
) -> tuple[int, Sequence[Key]]:
    """How many rows have a stored prediction, and the keys of those that have another one.

    Of a job with `changed_at` the rows count that have not changed since they were scored.
    """
    wanted = [quarantine.keys_of(keys, index) for index in range(keys.num_rows)]
    if chosen.target is None or not wanted:
        return 0, ()
    names = predicted.schema.names
    changes = chosen.source.changes
    is_stored = runtime.types(chosen.target).changed_at == chosen.job.changed_at
    runtime.data.rollback()
    if changes is not None and not is_stored:  # the job has it only since then, so nobody knows which rows changed
        return 0, ()
    with runtime.engine.connect() as connection:
        stored = canaries.stored_outputs(connection, chosen.target, chosen.source.keys, wanted, names, changes)
    positions = [index for index, key in enumerate(wanted) if key in stored]
    if changes is not None:
        now = [quarantine.row_id(keys, index).changed_at for index in range(len(wanted))]
        positions = [index for index in positions if _number(stored[wanted[index]][0]) == _number(now[index])]
    if not positions:
        return 0, ()
    rows = [stored[wanted[index]][1:] for index in positions]
    before = pa.RecordBatch.from_arrays(
        [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), predicted.schema, strict=True)],
        schema=predicted.schema,
    )
    found = predicted.take(pa.array(np.array(positions)))
    differing = likeness.difference(likeness.of_batch(found), likeness.of_batch(before), is_single=True).positions
    return len(positions), [wanted[positions[index]] for index in differing]
