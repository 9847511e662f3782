"""One attempt at a batch: what the parts of the batch have in common."""

from dataclasses import dataclass

import pyarrow as pa

from scorebeat.core.errors import ClaimLost, DeviceMemoryError, OutputError, kind, shortened
from scorebeat.core.events import emit
from scorebeat.db.batch_io import columns
from scorebeat.db.batch_io.columns import Part, Timing, TypesChanged
from scorebeat.db.closing import error_threshold
from scorebeat.db.connect import database_errors
from scorebeat.db.connect.sql import KeyColumn
from scorebeat.db.ledger import isolation, quarantine
from scorebeat.db.ledger.batches import Claim
from scorebeat.db.ledger.quarantine import BadRow
from scorebeat.db.source.pending import PendingRows
from scorebeat.models.outputs import checks
from scorebeat.models.scoring.micro_batches import MicroBatches
from scorebeat.worker.scoring.isolate import ALIKE_FROM, Scored, stack_of
from scorebeat.worker.scoring.runtime import Job, Runtime


@dataclass(frozen=True)
class Attempt:
    """A claim, with everything that scoring its rows needs."""

    claim: Claim
    job: Job
    model: MicroBatches
    runtime: Runtime

    @property
    def budget(self) -> int:
        """Attempts that the batch has again after progress; 0 for a job that leaves failed batches alone."""
        return 0 if self.job.run.job.on_failure == "leave" else self.runtime.settings.max_attempts

    @property
    def key_columns(self) -> tuple[KeyColumn, ...]:
        return self.job.source.keys

    @property
    def alike_from(self) -> int:
        """If so many rows all fail, the batch failed: they are most of it, not a few bad rows in sequence."""
        return max(ALIKE_FROM, self.claim.rows_planned // 2 + 1)

    def pending(self, *, anti_join: bool) -> PendingRows:
        """The query for the batch's pending rows."""
        quarantined = anti_join and self.runtime.has_quarantine(self.job.target.id)
        target = self.job.target
        return PendingRows(self.job.source, target.table, target.id, self.job.run.selection.where, quarantined)

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Query columns in, checked outputs out; no transaction is open here."""
        scored = self.model.predict(self.job.binding.apply(rows))
        if not self.job.run.job.allow_nan:
            checks.check_finite(scored)
        return scored

    def require_memory(self, scored: Scored) -> None:
        """Raises DeviceMemoryError if no row fitted, not even alone: another process may use the device's memory.

        The last attempt does not raise: then its rows are quarantined.
        """
        failed = [row.error for row in scored.failed if isinstance(row.error, DeviceMemoryError)]
        if (
            failed
            and len(failed) == len(scored.failed)
            and not scored.predictions.num_rows
            and self.claim.attempts_left
        ):
            raise failed[0]

    def commit(
        self, keys: pa.RecordBatch, scored: pa.RecordBatch, bad: tuple[BadRow, ...], timing: Timing | None
    ) -> bool:
        """Store a part of the batch; `timing` marks the last one. Returns whether its run then has no open batch."""
        try:
            was_last = self._commit(keys, scored, bad, timing)
        except (TypesChanged, OutputError, pa.ArrowInvalid):  # the types that this process keeps may be old
            self.runtime.forget_types(self.job.target)
            was_last = self._commit(keys, scored, bad, timing)
        if bad:
            self._emit_quarantined(bad)
            self._stop_if_too_many()
        return was_last

    def _commit(
        self, keys: pa.RecordBatch, scored: pa.RecordBatch, bad: tuple[BadRow, ...], timing: Timing | None
    ) -> bool:
        target, types = self.job.target, self.runtime.types(self.job.target)
        table = columns.to_ingest(types, target, keys, scored, self.claim.batch_id, self.key_columns)
        part = Part(table, bad, self.key_columns, self.budget, types)
        return columns.commit(self.runtime.data, self.claim, target, part, timing)

    def probe(self, keys: pa.RecordBatch, index: int) -> None:
        """Record the row that is scored next, alone. Raises ClaimLost."""
        with self.runtime.engine.begin() as connection:
            if not isolation.probe(connection, self.claim, quarantine.keys_of(keys, index)):
                raise ClaimLost(f"{self.claim} no longer holds the claim; nothing of it was written")

    def quarantine_probe(self) -> None:
        """Quarantine the row that the last attempt scored alone when its process died."""
        with self.runtime.engine.begin() as connection:
            key = isolation.quarantine_probe(connection, self.claim, self.job.target, self.key_columns, self.budget)
        if key is not None:
            emit(
                "row.quarantined",
                run=self.claim.run_id,
                batch=self.claim.batch_id,
                attempt=self.claim.attempt,
                worker=self.runtime.name,
                key=list(key),
                error="ProcessDied",
            )
            self._stop_if_too_many()

    def calm_down(self) -> None:
        with self.runtime.engine.begin() as connection:
            isolation.calm_down(connection, self.claim)

    def _emit_quarantined(self, bad: tuple[BadRow, ...]) -> None:
        first = bad[0]
        emit(
            "rows.quarantined",
            run=self.claim.run_id,
            batch=self.claim.batch_id,
            attempt=self.claim.attempt,
            worker=self.runtime.name,
            rows=len(bad),
            key=list(first.key),
            error=f"{first.error_type}: {first.error}",
        )

    def _stop_if_too_many(self) -> None:
        """Fail the run if it is past the threshold: then something other than its rows is wrong."""
        with self.runtime.engine.begin() as connection:
            reason = error_threshold.stop(connection, self.job.run)
        if reason is not None:
            emit("run.failed", run=self.claim.run_id, reason=reason)


def bad_row(keys: pa.RecordBatch, index: int, error: Exception) -> BadRow:
    """A row with the error that it raised, cut to a sane size."""
    return BadRow(
        quarantine.keys_of(keys, index), kind(error), shortened(database_errors.message(error)), stack_of(error)
    )
