"""Finds the rows of a batch that a model cannot score, by halving the rows that it gets."""

import random
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
from billiard.exceptions import SoftTimeLimitExceeded

from scorebeat.core.errors import OutputError, raised

ALIKE_FROM = 20
"""Fewer rows that all fail are so many failures of rows, not one of the batch."""
SAMPLE_ROWS = 64
"""Rows that are sampled at random, so that bad rows at even distances do not look like all. One good row ends it."""

Predict = Callable[[pa.RecordBatch], pa.RecordBatch]


@dataclass(frozen=True)
class Failed:
    """A row that the model raised for."""

    index: int
    error: Exception


@dataclass(frozen=True)
class Scored:
    """Rows that were scored, with their positions in the input, and rows that were not."""

    indices: list[int] | None
    """None if all rows were scored."""
    predictions: pa.RecordBatch
    failed: tuple[Failed, ...] = ()


def predict_isolating_failures(predict: Predict, rows: pa.RecordBatch, alike_from: int = ALIKE_FROM) -> Scored:
    """Score all rows at once; if the model raises, find the rows for which it raises.

    Raises the model's error if it is not about single rows: the model ran out of memory or time, raises the same error
    for every sampled row of at least `alike_from` rows, or breaks its contract for several rows but for none alone.
    """
    try:
        return Scored(None, predict(rows))
    except Exception as error:
        if _is_about_batch(error) or (rows.num_rows >= alike_from and _all_alike(predict, rows, error)):
            raise
        parts = list(_halves(predict, rows, 0, error))
    good = [part for part in parts if isinstance(part, _Good)]
    failed = tuple(part for part in parts if isinstance(part, Failed))
    indices = [part.start + i for part in good for i in range(part.predictions.num_rows)]
    tables = [part.predictions for part in good]
    if not tables:
        return Scored([], predict(rows.slice(0, 0)), failed)
    whole = pa.Table.from_batches(tables).combine_chunks().to_batches()
    return Scored(indices, whole[0] if whole else tables[0], failed)


@dataclass(frozen=True)
class _Good:
    start: int
    predictions: pa.RecordBatch


def _halves(predict: Predict, rows: pa.RecordBatch, start: int, error: Exception) -> Iterator[_Good | Failed]:
    """Predictions of the halves of `rows`, which failed with `error`, and the rows that fail alone."""
    if rows.num_rows == 1:
        yield Failed(start, error)
        return
    middle, blamed = rows.num_rows // 2, False
    for offset, half in ((0, rows.slice(0, middle)), (middle, rows.slice(middle))):
        try:
            yield _Good(start + offset, predict(half))
        except Exception as worse:
            if _is_about_batch(worse):
                raise
            for part in _halves(predict, half, start + offset, worse):
                blamed = blamed or isinstance(part, Failed)
                yield part
    if isinstance(error, OutputError) and not blamed:
        raise error  # it may return one value for all rows: then its prediction for one row alone is wrong, too


def _is_about_batch(error: Exception) -> bool:
    return isinstance(error, (MemoryError, SoftTimeLimitExceeded))


def _all_alike(predict: Predict, rows: pa.RecordBatch, error: Exception) -> bool:
    """Whether sampled rows of the whole batch, each alone, fail with the same error."""
    return all(_fails_alike(predict, rows.slice(position, 1), error) for position in sample_positions(rows.num_rows))


def sample_positions(count: int) -> list[int]:
    """Positions of the rows to try, of `count` rows; the same at every attempt."""
    return random.Random(count).sample(range(count), min(SAMPLE_ROWS, count))  # noqa: S311 -- not a secret


def _fails_alike(predict: Predict, row: pa.RecordBatch, error: Exception) -> bool:
    try:
        predict(row)
    except Exception as alone:
        if _is_about_batch(alone):
            raise
        return type(alone) is type(error)
    return False


def stack_of(error: BaseException) -> str:
    """The last 20 frames of an error's traceback: file, line and function of each, without any value."""
    own = raised(error)
    # if a model raises one exception object again and again, its traceback grows each time
    last = deque(traceback.walk_tb(own.__traceback__ if isinstance(own, BaseException) else None), 20)
    frames = traceback.StackSummary.extract(iter(last))
    return "\n".join(f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
