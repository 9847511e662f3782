"""Micro-batches: finds how many rows a model can score at once if the device's memory does not hold all rows."""

from collections.abc import Callable
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
        sizes = _Sizes()
        waiting = _cut(rows, self.limit or rows.num_rows)
        scored: list[pa.RecordBatch] = []
        try:
            with self._around():
                while waiting:
                    part = waiting.pop()
                    if not sizes.are_hopeless(part.num_rows):
                        try:
                            scored.append(score_rows.predict(self.model, part))
                        except (DeviceMemoryError, MemoryError) as error:
                            if part.num_rows <= 1:
                                raise DeviceMemoryError(
                                    f"one row alone does not fit into the memory: {text(error) or kind(error)}"
                                ) from error
                        else:
                            sizes.fitted = max(sizes.fitted, part.num_rows)
                            continue
                        # the error is released before fewer rows are tried: its traceback refers to the memory
                        sizes.refuse(part.num_rows)
                    most = sizes.fitted if sizes.are_hopeless(part.num_rows) else (part.num_rows + 1) // 2
                    waiting += _cut(part, most)
        except DeviceMemoryError:
            raise  # a row that never fits does not show how many others fit
        except Exception:
            self._learn(sizes)
            raise
        self._learn(sizes)
        return scored[0] if len(scored) == 1 else pa.concat_batches(scored)

    def _learn(self, sizes: "_Sizes") -> None:
        """Lower the limit if a smaller size is the reason that rows fitted.

        If as many rows as were refused now fitted before, these may be large: then it must happen repeatedly.
        """
        if sizes.are_bounded:
            self._doubts += 1
            if sizes.refused > self._fitted or self._doubts >= SURE_AFTER:
                self.limit = self._fitted = sizes.fitted
                self._doubts = 0
                self._learned(sizes.fitted)
        elif not sizes.refused and sizes.fitted >= self._fitted:
            self._fitted, self._doubts = sizes.fitted, 0


def _cut(rows: pa.RecordBatch, size: int) -> list[pa.RecordBatch]:
    """Parts of at most `size` rows, the first one last: it is taken first. Rows of no number are one part."""
    return [rows.slice(start, size) for start in reversed(range(0, max(rows.num_rows, 1), max(size, 1)))]


@dataclass
class _Sizes:
    """The numbers of rows that fitted and did not fit in one call."""

    fitted: int = 0
    """Most rows that were scored at once."""
    refused: int = 0
    """Fewest rows that did not fit; 0 if all fitted."""
    refusals: int = 0
    """Parts of at least `refused` rows that did not fit, since `refused` has its value."""

    @property
    def are_bounded(self) -> bool:
        """Whether all parts that fitted were smaller than all that did not."""
        return 0 < self.fitted < self.refused

    def are_hopeless(self, rows: int) -> bool:
        """Whether so many rows were refused so often that they are not tried again."""
        return self.are_bounded and self.refusals >= SURE_AFTER and rows >= self.refused

    def refuse(self, rows: int) -> None:
        smallest = not self.refused or rows < self.refused
        self.refused, self.refusals = (rows, 1) if smallest else (self.refused, self.refusals + 1)
