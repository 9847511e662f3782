"""Rows for the trial of a model: a person's rows, or else invented ones."""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scorebeat.models.arrow_types import is_list
from scorebeat.models.inputs.binding import bind

if TYPE_CHECKING:
    from scorebeat.models.contract import AddOptions, Signature

Known = Mapping[str, Sequence[Sequence[Any]]]
"""For each input that the model's file shows: the values that each of its elements had in training."""
NOTHING_KNOWN: Known = {}
_FRACTIONS = (0.5, 0.25, 0.75, 0.625)
"""Between 0 and 1: valid for logarithms, roots and Box-Cox, and as shares and probabilities."""
_LIST_LENGTH = 3
_NEW_YEAR = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Sampled:
    """Rows of a person in two forms, each read by itself."""

    source: str
    """The source of the rows, for messages: `churn.csv`, `job churn`."""
    rows: pa.RecordBatch
    """The rows as a job's query would return them."""
    frame: Callable[[], Any]
    """The same rows as a pandas DataFrame, as their owner has them in a notebook; raises ImportError without pandas."""
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Inputs that are fed by several columns of the frame, with these columns."""
    unused: tuple[str, ...] = ()
    """Columns that the model does not use."""
    name: Callable[[int], str] = lambda at: f"row {at + 1}"
    """The name of a row in messages, by its index."""
    is_from_person: bool = True
    """Whether the rows are a person's; False if they are invented."""


class Sample(Protocol):
    """A source of a person's rows."""

    def read(self, signature: "Signature") -> Sampled:
        """The rows, for a model with these inputs. Raises UsageError with what is wrong with them."""
        ...


def trial_rows(
    signature: "Signature", add_options: "AddOptions", rows: int, known: Known = NOTHING_KNOWN
) -> pa.RecordBatch:
    """`rows` rows that show what a model returns: the first ones of a person's rows, else invented ones.

    If a person's rows are fewer, the last one is repeated.
    """
    if add_options.sample is None:
        return sample(signature, rows, known)
    sampled = add_options.sample.read(signature)
    bound = bind(signature, sampled.rows.schema).apply(sampled.rows)
    return bound.take(pa.array([min(at, bound.num_rows - 1) for at in range(rows)], pa.int64()))


def sample(signature: "Signature", rows: int, known: Known = NOTHING_KNOWN) -> pa.RecordBatch:
    """Invented rows of values that the model knows; fractions, small numbers, "1" and "0" if it knows none."""
    return _batch(signature, rows, known, _ordinary)


def inventions(signature: "Signature", rows: int, known: Known = NOTHING_KNOWN) -> Iterator[pa.RecordBatch]:
    """Several batches of rows that a model may take, the most probable first: some models take no fraction, others no
    zero.

    If the model knows only one value of a column, such as the mean that an imputer fills in, the first batch has other
    values as well: equal rows do not show how a prediction depends on other rows.
    """
    varied = {name: [_varied(values) for values in elements] for name, elements in known.items()}
    yield sample(signature, rows, varied)
    if varied != known:
        yield sample(signature, rows, known)
    yield _batch(signature, rows, known, _ones_and_zeros)
    if known:
        yield sample(signature, rows)


def with_nulls(rows: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
    """The same rows with one NULL in each named column: in the first row for the first column, and so on.

    In an array the first element is NULL.
    """
    columns = list(rows.columns)
    for at, name in enumerate(names):
        index = rows.schema.get_field_index(name)
        kind = rows.schema.field(index).type
        row = at % rows.num_rows
        width = kind.list_size if pa.types.is_fixed_size_list(kind) else 1
        flat = columns[index].flatten() if width > 1 else columns[index]
        kept = np.arange(len(flat)) != row * width
        flat = pc.if_else(pa.array(kept), flat, pa.scalar(None, flat.type))
        columns[index] = pa.FixedSizeListArray.from_arrays(flat, width) if width > 1 else flat
    return pa.RecordBatch.from_arrays(columns, schema=rows.schema)


def _varied(values: Sequence[Any]) -> Sequence[Any]:
    """The values; if they are one number or truth value only, this and others near it."""
    if len({*values}) != 1:
        return values
    (value,) = {*values}
    if isinstance(value, bool | np.bool_):
        return [value, not value]
    if isinstance(value, int | np.integer):
        return [value, value + 1, value + 2]
    if isinstance(value, float | np.floating):
        return [value, value * 0.75, value * 1.25] if value else [value, *_FRACTIONS[:2]]  # its sign stays
    return values


def _batch(
    signature: "Signature", rows: int, known: Known, default: Callable[[pa.DataType, int], Any]
) -> pa.RecordBatch:
    """Rows of known values, else of default ones, which differ from row to row, and from one input to the next."""
    arrays = []
    for at, wanted in enumerate(signature.inputs):
        elements = known.get(wanted.name, ())
        elements = elements if any(elements) else [wanted.trained.categories]
        width = wanted.length or 1
        fits = [_fitting(values, wanted.type) for values in islice(elements, width)]
        fits += [[]] * (width - len(fits))
        values = [
            choice[(row + at + n) % len(choice)] if choice else default(wanted.type, row + at + n)
            for row in range(rows)
            for n, choice in enumerate(fits)
        ]
        flat = pa.array(values, wanted.type)
        arrays.append(flat if wanted.length is None else pa.FixedSizeListArray.from_arrays(flat, wanted.length))
    return pa.RecordBatch.from_arrays(arrays, schema=signature.columns)


def _fitting(values: Sequence[Any], wanted: pa.DataType) -> list[Any]:
    found = []
    for value in values:
        try:
            pa.scalar(value, wanted)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            continue
        found.append(value)
    return found


def _ordinary(wanted: pa.DataType, step: int) -> Any:
    if is_list(wanted):
        return [_ordinary(wanted.value_type, step + n) for n in range(_LIST_LENGTH)]
    if pa.types.is_temporal(wanted):
        return _day(wanted, step)
    if pa.types.is_floating(wanted):
        return _FRACTIONS[step % len(_FRACTIONS)]
    if pa.types.is_integer(wanted):
        return step % 3 + 1
    return _ones_and_zeros(wanted, step)


def _ones_and_zeros(wanted: pa.DataType, step: int) -> Any:
    one = (step + 1) % 2
    if is_list(wanted):
        return [_ones_and_zeros(wanted.value_type, step + n) for n in range(_LIST_LENGTH)]
    if pa.types.is_temporal(wanted):
        return _day(wanted, step)
    if pa.types.is_string(wanted):
        return str(one)
    return bool(one) if pa.types.is_boolean(wanted) else one


def _day(wanted: pa.DataType, step: int) -> Any:
    timestamp = _NEW_YEAR + dt.timedelta(days=step)
    if pa.types.is_date(wanted):
        return timestamp.date()
    return timestamp if wanted.tz else timestamp.replace(tzinfo=None)
