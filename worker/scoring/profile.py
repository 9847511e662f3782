"""The profile of what a batch gave to the model and got back: of a sample, so that it costs little."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from billiard.exceptions import SoftTimeLimitExceeded

from scorebeat.core.errors import one_line
from scorebeat.core.events import emit
from scorebeat.drift.profile import SAMPLE, Profile
from scorebeat.worker.scoring.attempt import Attempt
from scorebeat.worker.scoring.isolate import Scored

SAMPLE_ROWS = SAMPLE
"""Rows of a full batch that are looked at. Of a smaller one it is the same share, so that each row of the run has the
same chance; of the only batch of a run as many, if it has them."""
LEAST_ROWS = 50
MOST_VALUES = 200_000
"""Values of a full batch that are looked at: with many inputs and outputs fewer rows, down to `LEAST_ROWS`."""
MOST_BYTES = 16 * 1024**2
"""Bytes of a sample: of rows with long texts or arrays there are fewer."""


@dataclass
class Profiler:
    """Adds up the profile of one attempt, part by part."""

    attempt: Attempt
    profile: Profile | None = None

    def look_at(self, rows: pa.RecordBatch, scored: Scored) -> None:
        """Add a sample of the rows that were scored. A profile that fails costs no prediction: it has the reason."""
        run = self.attempt.job.run
        if run.job.drift is None:
            return
        if run.id in self.attempt.runtime.without_profile:
            self._fail(self.attempt.runtime.without_profile[run.id])
            return
        try:
            count = scored.predictions.num_rows
            chosen = _sample(count, self._share(rows, count), self.attempt.claim.batch_id)
            if not len(chosen):
                return
            among = chosen if scored.indices is None else np.asarray(scored.indices)[chosen]
            inputs = self.attempt.job.binding.apply(rows.take(pa.array(among)))
            seen = Profile.of(inputs, scored.predictions.take(pa.array(chosen)))
            if self.profile is None:
                self.profile = seen
            else:
                self.profile.merge(seen)
        except SoftTimeLimitExceeded:
            raise
        except Exception as error:  # noqa: BLE001 -- the predictions are right, whatever the profile lacks
            reason = one_line(error)
            self.attempt.runtime.without_profile[run.id] = reason
            emit("profile.failed", run=run.id, job=run.job.name, reason=reason)
            self._fail(reason)

    def _fail(self, reason: str) -> None:
        """Nothing more of the batch is looked at, and whoever closes the run knows."""
        self.profile = Profile(failures=1, failure=reason)

    def _share(self, rows: pa.RecordBatch, scored: int) -> float:
        """The share of the `scored` ones of these rows that is looked at."""
        claim, job = self.attempt.claim, self.attempt.job
        full, columns = job.run.job.batch_rows, len(job.binding.inputs) + len(job.version.signature["outputs"])
        is_only = claim.number == 1 and claim.rows_planned < full
        wanted = min(SAMPLE_ROWS, max(LEAST_ROWS, MOST_VALUES // columns))
        size = float(rows.nbytes)
        return min(1.0, wanted / max(1, scored if is_only else full), MOST_BYTES / max(1.0, size))

    def stored(self) -> bytes | None:
        """For the ledger; None if nothing was looked at."""
        return None if self.profile is None else self.profile.to_bytes()


def _sample(rows: int, share: float, seed: int) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """Positions of the sample: one at random from each of as many equal parts of the rows."""
    count = int(np.ceil(rows * share))
    parts = np.random.default_rng(seed).random(count) + np.arange(count)
    return np.minimum((parts * rows / max(count, 1)).astype(np.int64), rows - 1)
