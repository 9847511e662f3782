"""Rows to try a model on before it is used: rows that a person gives, or else invented ones."""

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
    from scorebeat.models.contract import Given, Input, Signature

Known = Mapping[str, Sequence[Sequence[Any]]]
"""For each input that the model's file tells of: the values that each of its elements had in training."""
NOTHING_KNOWN: Known = {}
_FRACTIONS = (0.5, 0.25, 0.75, 0.625)
"""Between 0 and 1: logarithms, roots and Box-Cox take them, and so do shares and probabilities."""
_LIST_LENGTH = 3
_NEW_YEAR = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Sampled:
    """Rows that a person gave, in two forms that were read apart."""

    source: str
    """Where they are from, as messages say it: `churn.csv`, `job churn`."""
    rows: pa.RecordBatch
    """As a job's query would give them."""
    frame: Callable[[], Any]
    """The same rows as a pandas DataFrame, as their owner has them in a notebook; raises ImportError without pandas."""
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Inputs that several columns of the frame feed, with those columns."""
    unused: tuple[str, ...] = ()
    """Columns that the model does not want."""
    name: Callable[[int], str] = lambda at: f"row {at + 1}"
    """What a row is called in messages."""
    is_given: bool = True
    """Whether a person gave the rows, and they were not invented."""


class Sample(Protocol):
    """Where a person's rows come from."""

    def read(self, signature: "Signature") -> Sampled:
        """The rows, for a model with these inputs. Raises UsageError saying what is wrong with them."""
        ...


def trial_rows(signature: "Signature", given: "Given", rows: int, known: Known = NOTHING_KNOWN) -> pa.RecordBatch:
    """`rows` rows that show what a model returns: the first of those that a person gave, else invented ones.

    Where fewer were given the last is repeated.
    """
    if given.sample is None:
        return sample(signature, rows, known)
    sampled = given.sample.read(signature)
    bound = bind(signature, sampled.rows.schema).apply(sampled.rows)
    return bound.take(pa.array([min(at, bound.num_rows - 1) for at in range(rows)], pa.int64()))


def sample(signature: "Signature", rows: int, known: Known = NOTHING_KNOWN) -> pa.RecordBatch:
    """Invented rows of values that the model knows; of fractions, small numbers, "1" and "0" where it tells none."""
    return _batch(signature, rows, known, _ordinary)


def inventions(signature: "Signature", rows: int, known: Known = NOTHING_KNOWN) -> Iterator[pa.RecordBatch]:
    """Several tries at rows that a model may take, the likeliest first: some take no fraction, others no zero.

    Where the model knows one value of a column alone, such as the mean that an imputer puts in, the first try has
    others beside it: rows that are all alike show nothing of how a prediction depends on the rows around it.
    """
    varied = {name: [_varied(values) for values in elements] for name, elements in known.items()}
    yield sample(signature, rows, varied)
    if varied != known:
        yield sample(signature, rows, known)
    yield _batch(signature, rows, known, _ones_and_zeros)
    if known:
        yield sample(signature, rows)


def with_nulls(rows: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
    """The same rows, with a NULL in one row of each column that is named: in the first row of the first, and so on.

    An array has it in its first element.
    """
    columns = list(rows.columns)
    for at, name in enumerate(names):
        n = rows.schema.get_field_index(name)
        row = at % rows.num_rows
        width = rows.schema.field(n).type.list_size if pa.types.is_fixed_size_list(rows.schema.field(n).type) else 1
        flat = columns[n].flatten() if width > 1 else columns[n]
        kept = np.arange(len(flat)) != row * width
        flat = pc.if_else(pa.array(kept), flat, pa.scalar(None, flat.type))
        columns[n] = pa.FixedSizeListArray.from_arrays(flat, width) if width > 1 else flat
    return pa.RecordBatch.from_arrays(columns, schema=rows.schema)


def _varied(values: Sequence[Any]) -> Sequence[Any]:
    """The values, or, where they are one number or truth value alone, that one and two near it."""
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
    arrays = []
    for at, wanted in enumerate(signature.inputs):
        values = known.get(wanted.name, ())
        arrays.append(_column(wanted, rows, values if any(values) else [wanted.trained.categories], at, default))
    return pa.RecordBatch.from_arrays(arrays, schema=signature.columns)


def _column(
    wanted: "Input", rows: int, known: Sequence[Sequence[Any]], at: int, default: Callable[[pa.DataType, int], Any]
) -> pa.Array:
    """Values of one input, which differ from row to row and from one input to the next."""
    width = wanted.length or 1
    fits = [_fitting(values, wanted.type) for values in islice(known, width)]
    fits += [[]] * (width - len(fits))
    values = [
        choice[(row + at + n) % len(choice)] if choice else default(wanted.type, row + at + n)
        for row in range(rows)
        for n, choice in enumerate(fits)
    ]
    flat = pa.array(values, wanted.type)
    return flat if wanted.length is None else pa.FixedSizeListArray.from_arrays(flat, wanted.length)


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
    moment = _NEW_YEAR + dt.timedelta(days=step)
    if pa.types.is_date(wanted):
        return moment.date()
    return moment if wanted.tz else moment.replace(tzinfo=None)
