"""Finds out whether predictions depend on chance, on earlier calls, or on the other rows of a batch."""

import time
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from scorebeat.models.arrow_types import element_type
from scorebeat.models.contract import Model
from scorebeat.models.formats.shared.refusals import error_summary
from scorebeat.models.inputs.samples import with_nulls
from scorebeat.models.scoring.micro_batches import MicroBatches
from scorebeat.models.trial import likeness

ALONE = 32
"""Most rows that are also scored one by one; and most columns that are tried with a NULL one by one."""
ALONE_SECONDS = 20.0
"""No further row is scored alone after this."""
WITH_NULLS = 8
"""Rows that are tried with NULLs."""
RowNames = Callable[[Sequence[int]], str]
"""Returns the names of rows in messages, by their positions."""
_NullTrial = tuple[Sequence[str], pa.RecordBatch, pa.RecordBatch]
"""Columns, rows with NULLs in these columns, and the model's predictions for these rows."""


def dependence(model: Model, rows: pa.RecordBatch, predicted: pa.RecordBatch, row_names: RowNames) -> str:
    """How predictions of these rows, without and with NULLs, depend on time or on other rows; empty if they do not.

    NULLs are tried because a model's own code often fills them from the batch, by `fillna(x.median())`, or at random.
    """
    return next(_dependences(model, rows, predicted, row_names), "")


def is_single(*batches: pa.RecordBatch) -> bool:
    """Whether a column in them is float32, so that the model computes in float32."""
    return any(pa.types.is_float32(element_type(f.type)) for batch in batches for f in batch.schema)


def _dependences(model: Model, rows: pa.RecordBatch, predicted: pa.RecordBatch, row_names: RowNames) -> Iterator[str]:
    yield from _dependences_of_rows(model, rows, predicted, row_names)
    few = rows.slice(0, WITH_NULLS) if rows.num_rows > 1 else pa.concat_batches([rows, rows])
    for columns, lacking, scored in _null_trials(model, few):
        where = ", ".join(columns[:5]) + ", ..." * (len(columns) > 5)
        yield from (
            f"{each}, with NULLs in {where}" for each in _dependences_of_rows(model, lacking, scored, row_names)
        )


def _dependences_of_rows(
    model: Model, rows: pa.RecordBatch, predicted: pa.RecordBatch, row_names: RowNames
) -> Iterator[str]:
    again = _predicted(model, rows)
    if isinstance(again, Exception):
        yield f"it raises {error_summary(again)} when the same rows come again"
        return
    if differing := _differing(rows, again, predicted):
        yield f"it returns other values when the same rows come again: {row_names(differing)}"
    deadline, parts = time.monotonic() + ALONE_SECONDS, []
    for index in range(min(rows.num_rows, ALONE)):
        alone = _predicted(model, rows.slice(index, 1))
        if isinstance(alone, Exception):
            cause = error_summary(alone.__cause__ or alone, lines=1)
            yield f"for a row alone, which it scores among other rows, it raises {cause}: {row_names([index])}"
            return
        parts.append(alone)
        if time.monotonic() > deadline:
            break
    one_by_one = pa.concat_batches(parts)
    if differing := _differing(rows, one_by_one, predicted.slice(0, one_by_one.num_rows)):
        yield f"it returns other values for a row alone than among other rows: {row_names(differing)}"


def _null_trials(model: Model, rows: pa.RecordBatch) -> list[_NullTrial]:
    """The rows with NULLs in the columns in which the model takes them: in all together if it does, else in each."""
    names = list(rows.schema.names)
    if (together := _null_trial(model, rows, names)) is not None:
        return [together]
    if len(names) == 1:
        return []
    singles = [each for name in names[:ALONE] if (each := _null_trial(model, rows, [name])) is not None]
    taken = [name for columns, _, _ in singles for name in columns]
    if len(taken) > 1 and (together := _null_trial(model, rows, taken)) is not None:
        return [together]
    return singles


def _null_trial(model: Model, rows: pa.RecordBatch, names: Sequence[str]) -> _NullTrial | None:
    """The rows with NULLs in these columns; None if the model does not take them."""
    lacking = with_nulls(rows, names)
    scored = _predicted(model, lacking)
    return (names, lacking, scored) if isinstance(scored, pa.RecordBatch) else None


def _predicted(model: Model, rows: pa.RecordBatch) -> pa.RecordBatch | Exception:
    """Predictions of the rows, or the model's error."""
    try:
        return MicroBatches(model).predict(rows)
    except Exception as error:  # noqa: BLE001 -- the model's own code may raise anything
        return error


def _differing(rows: pa.RecordBatch, found: pa.RecordBatch, expected: pa.RecordBatch) -> list[int]:
    one, other = (likeness.of_batch(each) for each in (found, expected))
    return likeness.difference(one, other, is_single=is_single(rows, expected)).positions
