"""Finds the rows of a batch that a model cannot score, by halving the rows that it gets."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
from billiard.exceptions import SoftTimeLimitExceeded

from scorebeat.core.bisect import Done, Failed, bisect
from scorebeat.core.errors import OutputError

ALIKE_FROM = 20
"""Fewer rows that all fail are so many failures of rows, not one of the batch."""
SAMPLE_ROWS = 64
"""Rows that are sampled at random, so that bad rows at even distances do not look like all. One good row ends it."""

Predict = Callable[[pa.RecordBatch], pa.RecordBatch]


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
        if not _is_about_rows(error) or (rows.num_rows >= alike_from and _all_alike(predict, rows, error)):
            raise
        whole = error
    broken = [(range(rows.num_rows), whole)]
    """Parts for which the model failed, with their errors."""

    def predict_part(part: range) -> pa.RecordBatch:
        try:
            return predict(rows.slice(part.start, len(part)))
        except Exception as error:
            broken.append((part, error))
            raise

    good: list[Done[pa.RecordBatch]] = []
    failed: list[Failed] = []
    for found in bisect(rows.num_rows, predict_part, _is_about_rows, whole):
        if isinstance(found, Failed):
            failed.append(found)
        else:
            good.append(found)
    for part, reason in broken:
        if isinstance(reason, OutputError) and not any(row.index in part for row in failed):
            raise reason  # it may return one value for all rows: then its prediction for one row alone is wrong, too
    if not good:
        return Scored([], predict(rows.slice(0, 0)), tuple(failed))
    indices = [index for done in good for index in done.part]
    return Scored(indices, pa.concat_batches([done.result for done in good]), tuple(failed))


def sample_positions(count: int) -> list[int]:
    """Positions of the rows to try, of `count` rows; the same at every attempt."""
    return random.Random(count).sample(range(count), min(SAMPLE_ROWS, count))  # noqa: S311 -- not a secret


def _all_alike(predict: Predict, rows: pa.RecordBatch, error: Exception) -> bool:
    """Whether sampled rows of the whole batch, each alone, fail with the same error."""
    for position in sample_positions(rows.num_rows):
        try:
            predict(rows.slice(position, 1))
        except Exception as alone:
            if not _is_about_rows(alone):
                raise
            if type(alone) is not type(error):
                return False
        else:
            return False
    return True


def _is_about_rows(error: Exception) -> bool:
    return not isinstance(error, (MemoryError, SoftTimeLimitExceeded))
