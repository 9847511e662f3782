"""Fetched values: their types are checked, and values that the driver changed are found."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from scorebeat.core.errors import InputError, SourceChanged
from scorebeat.core.table_names import CHANGED_AT
from scorebeat.db.source.changes import SEEN
from scorebeat.db.source.source import Source
from scorebeat.db.source.values.types import FLOATS

SENT, TEXT = "sent", "text"
"""Fields of a key that is stored as PostgreSQL sends it: those bytes, and the value's text."""


@dataclass(frozen=True)
class Unfit:
    """Values of a column that Arrow cannot hold: the fetched column has other values in their rows."""

    column: str
    rows: pa.BooleanArray
    reason: str
    is_timestamp: bool
    """A date or timestamp, which a job may want as NULL."""


def no_rows(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)


def key_columns_of(whole: pa.RecordBatch, source: Source) -> tuple[pa.RecordBatch, int]:
    """The key columns, and how many columns of the fetch they take. Raises SourceChanged.

    Of a source with `changes` two more columns follow them, which go with the rows wherever the keys go: `CHANGED_AT`
    and `SEEN`.
    """
    arrays: list[pa.Array] = []
    names = [key.name for key in source.keys]
    position = 0
    for key in source.keys:
        if key.send:
            arrays.append(
                pa.StructArray.from_arrays([whole.column(position), whole.column(position + 1)], names=[SENT, TEXT])
            )
        else:
            _require_type(whole.schema.field(position + key.is_read_twice), key.name, key.read_as)
            arrays.append(whole.column(position))
        position += 1 + key.is_read_twice
    if source.changes is not None:
        _require_type(whole.schema.field(position), source.changes.name, source.changes.read_as)
        arrays += [whole.column(position), whole.column(position + 1)]
        names += [CHANGED_AT, SEEN]
        position += 2
    return pa.RecordBatch.from_arrays(arrays, names=names), position


def without_changes(keys: pa.RecordBatch) -> pa.RecordBatch:
    """The key columns alone."""
    return keys.select([name for name in keys.schema.names if name not in (CHANGED_AT, SEEN)])


def typed(whole: pa.RecordBatch, position: int, source: Source) -> tuple[pa.RecordBatch, tuple[Unfit, ...]]:
    """Input columns from `position` on, in the types of `Source.columns`, and values that are not the query's.

    Raises SourceChanged if PostgreSQL returns another type than when the source was read.
    """
    arrays: list[pa.Array] = []
    names: list[str] = []
    unfit: list[Unfit] = []
    while position < whole.num_columns:
        name, column = whole.schema.names[position], whole.column(position)
        position += name in source.casts
        _require_type(whole.schema.field(position), name, source.read_as[name])
        if source.is_array(name):
            position += 1
            is_nested = whole.column(position)
            if is_nested.null_count < len(is_nested):  # the driver flattened them
                several = "is an array of several dimensions"
                unfit.append(Unfit(name, is_nested.fill_null(False), several, is_timestamp=False))
        if name in source.json:
            column = _json_lists(column, name)
        elif isinstance(column, pa.ExtensionArray):
            column = column.storage
        unfit += find_out_of_range(name, column)
        arrays.append(column)
        names.append(name)
        position += 1
    return pa.RecordBatch.from_arrays(arrays, names=names), tuple(unfit)


_LEAST_DAY = -2_440_588
"""PostgreSQL's first date, 4714-11-24 BC, counted from 1970."""
_DAY = 86_400_000_000
"""Microseconds."""


def find_out_of_range(name: str, column: pa.Array) -> Iterator[Unfit]:
    """Infinity, and timestamps after the year 294246: the driver shifts the epoch, so they wrap around below it."""
    if pa.types.is_date32(column.type):
        numbers, least = column.view(pa.int32()), _LEAST_DAY
    elif pa.types.is_timestamp(column.type):
        numbers, least = column.view(pa.int64()), _LEAST_DAY * _DAY
    else:
        return
    lowest = pc.min(numbers).as_py()
    if lowest is not None and lowest < least:
        wrong = pc.less(numbers, pa.scalar(least, numbers.type)).fill_null(False)
        yield Unfit(name, wrong, "is infinite, or later than a timestamp that a model can get", is_timestamp=True)


_FROM_1970 = 10_957 * _DAY


def since_2000(timestamps: pa.ChunkedArray) -> pa.ChunkedArray:
    """Timestamps as PostgreSQL stores them, wrapped back: the driver writes no infinity, but writes any int64."""
    return pc.subtract(timestamps.cast(pa.int64()), pa.scalar(_FROM_1970, pa.int64()))


def _require_type(field: pa.Field, name: str, wanted: frozenset[str]) -> None:
    found = driver_type(field)
    if found not in wanted:
        raise SourceChanged(
            f"column {name!r} of the query is {found} now and was {' or '.join(sorted(wanted))} when this process read "
            "the query; nothing of these rows was scored. The next attempt reads the query again"
        )


def driver_type(field: pa.Field) -> str:
    """The driver's name for the PostgreSQL type of a column that it read."""
    return str((field.metadata or {}).get(b"POSTGRESQL:type", b"unknown").decode())


def _json_lists(column: pa.Array, name: str) -> pa.Array:
    """Texts of JSON arrays of numbers as a list column, by Arrow's own JSON reader."""
    if len(column) == 0:
        return pa.array([], FLOATS)
    # a newline would end a record; in JSON outside of strings it is only white space
    flat = pc.replace_substring(pc.coalesce(column, pa.scalar("null")), "\n", " ")
    lines = pc.binary_join_element_wise('{"v":', flat, "}\n", "")
    text = pa.concat_arrays([lines]).buffers()[2]
    schema = pa.schema([("v", FLOATS)])
    try:
        parsed = pa.json.read_json(
            pa.BufferReader(text.slice(0, pc.sum(pc.binary_length(lines)).as_py())),
            parse_options=pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
        )
    except pa.ArrowInvalid as error:
        raise InputError(
            f"column {name!r} holds JSON that is not an array of numbers ({error}); leave such rows out, "
            "or turn them into an array in the query"
        ) from None
    return parsed.column("v").combine_chunks()
