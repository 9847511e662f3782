"""Narrowing: finding the rows of a batch that a model cannot score, by halving what it is given."""

import random
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
from billiard.exceptions import SoftTimeLimitExceeded

from scorebeat.core.errors import OutputError, raised

ALIKE_FROM = 20
"""Fewer rows that all fail are so many failures, not one."""
TRIED = 64
"""Rows drawn at random: bad rows at even distances must not look like all. One good row ends the trial."""

Predict = Callable[[pa.RecordBatch], pa.RecordBatch]


@dataclass(frozen=True)
class Failed:
    """A row that the model raised for."""

    index: int
    error: Exception


@dataclass(frozen=True)
class Scored:
    """Rows that were scored, by their place in what was given, and those that were not."""

    indices: list[int] | None
    """None: all."""
    predictions: pa.RecordBatch
    failed: tuple[Failed, ...] = ()


def score(predict: Predict, rows: pa.RecordBatch, alike_from: int = ALIKE_FROM) -> Scored:
    """Score all rows at once; where the model raises, find the rows that it raises for.

    Raises the model's error when it is not about single rows: it ran out of memory or time, raises alike for
    every row tried of at least `alike_from`, or breaks its contract for rows together of which none breaks it alone.
    """
    try:
        return Scored(None, predict(rows))
    except Exception as error:
        if _is_whole(error) or (rows.num_rows >= alike_from and _all_alike(predict, rows, error)):
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
    """`rows` failed with `error`: its halves, or the one row."""
    if rows.num_rows == 1:
        yield Failed(start, error)
        return
    middle, blamed = rows.num_rows // 2, False
    for offset, half in ((0, rows.slice(0, middle)), (middle, rows.slice(middle))):
        try:
            yield _Good(start + offset, predict(half))
        except Exception as worse:
            if _is_whole(worse):
                raise
            for part in _halves(predict, half, start + offset, worse):
                blamed = blamed or isinstance(part, Failed)
                yield part
    if isinstance(error, OutputError) and not blamed:
        raise error  # it returns one value for all rows, say: then what it returns for one alone is wrong, too


def _is_whole(error: Exception) -> bool:
    return isinstance(error, (MemoryError, SoftTimeLimitExceeded))


def _all_alike(predict: Predict, rows: pa.RecordBatch, error: Exception) -> bool:
    """Rows from all over the batch, each alone, fail with the same error."""
    return all(_fails_alike(predict, rows.slice(i, 1), error) for i in drawn(rows.num_rows))


def drawn(count: int) -> list[int]:
    """Places of the rows that are tried, of so many; the same at every attempt."""
    return random.Random(count).sample(range(count), min(TRIED, count))  # noqa: S311 -- not a secret


def _fails_alike(predict: Predict, row: pa.RecordBatch, error: Exception) -> bool:
    try:
        predict(row)
    except Exception as alone:
        if _is_whole(alone):
            raise
        return type(alone) is type(error)
    return False


def places(error: BaseException) -> str:
    """Where it was raised: file, line and function of each frame, the last 20, without any value."""
    own = raised(error)
    # a model that raises one object again and again makes its traceback longer each time
    last = deque(traceback.walk_tb(own.__traceback__ if isinstance(own, BaseException) else None), 20)
    frames = traceback.StackSummary.extract(iter(last))
    return "\n".join(f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
