"""One attempt at a batch: what its parts have in common."""

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
from scorebeat.worker.scoring.isolate import ALIKE_FROM, Scored, places
from scorebeat.worker.scoring.runtime import Job, Runtime


@dataclass(frozen=True)
class Attempt:
    """A claim with all that it takes to score its rows."""

    held: Claim
    job: Job
    model: MicroBatches
    w: Runtime

    @property
    def budget(self) -> int:
        """Attempts that progress gives back; a job that leaves failed batches alone has one in all."""
        return 0 if self.job.run.job.on_failure == "leave" else self.w.settings.max_attempts

    @property
    def key_columns(self) -> tuple[KeyColumn, ...]:
        return self.job.source.keys

    @property
    def alike_from(self) -> int:
        """So many rows that all fail are a failure of the batch: most of it, not a stretch of bad rows."""
        return max(ALIKE_FROM, self.held.rows_planned // 2 + 1)

    def pending(self, *, anti_join: bool) -> PendingRows:
        """How the batch's pending rows are asked for."""
        quarantined = anti_join and self.w.has_quarantine(self.job.target.id)
        target = self.job.target
        return PendingRows(self.job.source, target.table, target.id, self.job.run.selection.where, quarantined)

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Query columns in, checked outputs out; no transaction is open here."""
        scored = self.model.predict(self.job.binding.apply(rows))
        if not self.job.run.job.allow_nan:
            checks.check_finite(scored)
        return scored

    def require_memory(self, scored: Scored) -> None:
        """Raises DeviceMemoryError when no row fitted, not even alone: that may be whoever else uses the device.

        The last attempt waits no more: its rows are to blame.
        """
        failed = [row.error for row in scored.failed if isinstance(row.error, DeviceMemoryError)]
        if failed and len(failed) == len(scored.failed) and not scored.predictions.num_rows and self.held.attempts_left:
            raise failed[0]

    def commit(
        self, keys: pa.RecordBatch, scored: pa.RecordBatch, bad: tuple[BadRow, ...], timing: Timing | None
    ) -> bool:
        """Store a part of the batch; with `timing` it is the last. Returns whether its run has no open batch then."""
        try:
            was_last = self._commit(keys, scored, bad, timing)
        except (TypesChanged, OutputError, pa.ArrowInvalid):  # by types that may be those of before
            self.w.forget_types(self.job.target)
            was_last = self._commit(keys, scored, bad, timing)
        if bad:
            self._say(bad)
            self._stop_if_too_many()
        return was_last

    def _commit(
        self, keys: pa.RecordBatch, scored: pa.RecordBatch, bad: tuple[BadRow, ...], timing: Timing | None
    ) -> bool:
        target, types = self.job.target, self.w.types(self.job.target)
        table = columns.to_ingest(types, target, keys, scored, self.held.batch_id, self.key_columns)
        part = Part(table, bad, self.key_columns, self.budget, types)
        return columns.commit(self.w.data, self.held, target, part, timing)

    def probe(self, keys: pa.RecordBatch, index: int) -> None:
        """Name the row that is scored next, alone. Raises ClaimLost."""
        with self.w.engine.begin() as connection:
            if not isolation.probe(connection, self.held, quarantine.keys_of(keys, index)):
                raise ClaimLost(f"{self.held} no longer holds the claim; nothing of it was written")

    def put_probe_aside(self) -> None:
        """The last attempt died with one row alone: that row is the one."""
        with self.w.engine.begin() as connection:
            key = isolation.quarantine_probe(connection, self.held, self.job.target, self.key_columns, self.budget)
        if key is not None:
            emit(
                "row.quarantined",
                run=self.held.run_id,
                batch=self.held.batch_id,
                attempt=self.held.attempt,
                worker=self.w.name,
                key=list(key),
                error="ProcessDied",
            )
            self._stop_if_too_many()

    def calm_down(self) -> None:
        with self.w.engine.begin() as connection:
            isolation.calm_down(connection, self.held)

    def _say(self, bad: tuple[BadRow, ...]) -> None:
        first = bad[0]
        emit(
            "rows.quarantined",
            run=self.held.run_id,
            batch=self.held.batch_id,
            attempt=self.held.attempt,
            worker=self.w.name,
            rows=len(bad),
            key=list(first.key),
            error=f"{first.error_type}: {first.error}",
        )

    def _stop_if_too_many(self) -> None:
        """Past the threshold something other than rows is wrong: the run fails and says so."""
        with self.w.engine.begin() as connection:
            reason = error_threshold.stop(connection, self.job.run)
        if reason is not None:
            emit("run.failed", run=self.held.run_id, reason=reason)


def bad_row(keys: pa.RecordBatch, index: int, error: Exception) -> BadRow:
    """A row with the error that it raised, cut to a sane size."""
    return BadRow(quarantine.keys_of(keys, index), kind(error), shortened(database_errors.words(error)), places(error))
