"""Micro-batches: finds how many rows a model can score at once if the device's memory does not hold all rows."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import pyarrow as pa

from scorebeat.core.errors import DeviceMemoryError, kind, text
from scorebeat.models.contract import Model
from scorebeat.models.scoring import score_rows

SURE_AFTER = 3
"""If so many parts of about one size did not fit, and none fitted, that is no accident."""

Learned = Callable[[int], None]
Around = Callable[[], AbstractContextManager[None]]


class MicroBatches:
    """A loaded model that gets as many rows at once as the device's memory holds.

    If rows do not fit, they are halved; predictions made so far are kept. If all parts that fitted were smaller than
    all that did not, the number of rows is the reason: later calls begin with the largest that fitted, and `learned`
    is called once for each change. A few rows that are much larger than others do not change the limit. Each call of
    the model is made within `around()`.
    """

    def __init__(
        self,
        model: Model,
        limit: int | None = None,
        learned: Learned = lambda rows: None,  # noqa: ARG005
        around: Around = nullcontext,
    ) -> None:
        self.model = model
        self.limit = limit
        """Most rows that the model gets at once; None if there is no limit."""
        self._learned = learned
        self._around = around
        self._fitted = limit or 0
        """Most rows that fitted so far."""
        self._doubts = 0
        """Calls in which only fewer rows fitted."""

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """One checked prediction a row, in the rows' order.

        Raises DeviceMemoryError if one row alone does not fit, and what `score_rows.predict` raises.
        """
        trial = _Trial(self.model)
        try:
            with self._around():
                parts = list(trial.pieces(rows, self.limit or rows.num_rows))
        except DeviceMemoryError:
            raise  # a row that never fits does not show how many others fit
        except Exception:
            self._learn(trial)
            raise
        self._learn(trial)
        return parts[0] if len(parts) == 1 else pa.concat_batches(parts)

    def _learn(self, trial: "_Trial") -> None:
        if trial.is_bounded and self._is_believed(trial):
            self.limit = self._fitted = trial.fitted
            self._doubts = 0
            self._learned(trial.fitted)
        elif not trial.refused and trial.fitted >= self._fitted:
            self._fitted, self._doubts = trial.fitted, 0

    def _is_believed(self, trial: "_Trial") -> bool:
        """Whether to lower the limit. If so many rows fitted before, these may be large: it must happen repeatedly."""
        self._doubts += 1
        return trial.refused > self._fitted or self._doubts >= SURE_AFTER


@dataclass
class _Trial:
    """The sizes that fitted and did not fit in one call."""

    model: Model
    fitted: int = 0
    """Most rows that were scored at once."""
    refused: int = 0
    """Fewest rows that did not fit; 0 if all fitted."""
    refusals: int = 0
    """Parts of at least `refused` rows that did not fit, since `refused` has its value."""

    @property
    def is_bounded(self) -> bool:
        """Whether all parts that fitted were smaller than all that did not."""
        return 0 < self.fitted < self.refused

    def pieces(self, rows: pa.RecordBatch, size: int) -> Iterator[pa.RecordBatch]:
        """Predictions of `rows`, in pieces of at most `size` rows."""
        for start in range(0, max(rows.num_rows, 1), max(size, 1)):
            yield from self._piece(rows.slice(start, size))

    def _piece(self, rows: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        scored = None if self._is_hopeless(rows.num_rows) else self._scored(rows)
        if scored is not None:
            yield scored
        elif self._is_hopeless(rows.num_rows):
            yield from self.pieces(rows, self.fitted)
        else:
            yield from self.pieces(rows, (rows.num_rows + 1) // 2)

    def _is_hopeless(self, rows: int) -> bool:
        return self.is_bounded and self.refusals >= SURE_AFTER and rows >= self.refused

    def _scored(self, rows: pa.RecordBatch) -> pa.RecordBatch | None:
        """The predictions; None if so many rows do not fit.

        The error is released before fewer rows are tried: its traceback refers to the memory that is needed.
        """
        try:
            scored = score_rows.predict(self.model, rows)
        except (DeviceMemoryError, MemoryError) as error:
            if rows.num_rows <= 1:
                raise DeviceMemoryError(
                    f"one row alone does not fit into the memory: {text(error) or kind(error)}"
                ) from error
            self._refuse(rows.num_rows)
            return None
        self.fitted = max(self.fitted, rows.num_rows)
        return scored

    def _refuse(self, rows: int) -> None:
        smallest = not self.refused or rows < self.refused
        self.refused, self.refusals = (rows, 1) if smallest else (self.refused, self.refusals + 1)
