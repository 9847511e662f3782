"""One attempt at a batch: the data that its steps have in common."""

from dataclasses import dataclass

from scorebeat.db.connect.sql import KeyColumn
from scorebeat.db.ledger.batches import Claim
from scorebeat.db.source.selection.pending import PendingRows
from scorebeat.models.scoring.micro_batches import MicroBatches
from scorebeat.worker.scoring.isolate import ALIKE_FROM
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
        """The query for the batch's pending rows; to look them up, the table gets its key if it has none yet."""
        if anti_join:
            self.runtime.require_key(self.job.target)
        quarantined = anti_join and self.runtime.has_quarantine(self.job.target.id)
        target = self.job.target
        return PendingRows(
            self.job.source,
            target.table,
            target.id,
            self.job.run.where_to_read,
            quarantined,
            batch_id=self.claim.batch_id,
        )
