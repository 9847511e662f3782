"""Rows of a user's file, CSV, Parquet or JSON: read by Arrow, as a query would return them, and again by pandas."""

import codecs
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from scorebeat.core.errors import UsageError, near, one_line
from scorebeat.core.text.json_input import RepeatedKey, read_json
from scorebeat.models.arrow_types import is_text
from scorebeat.models.contract import Input, Signature
from scorebeat.models.inputs.own_rows import plain_types
from scorebeat.models.inputs.samples import Sampled

SUFFIXES = (".csv", ".parquet", ".json", ".jsonl", ".ndjson")
MOST = 200
"""Rows that are read by default."""
MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
"""Missing values in a CSV file: those of pandas."""
_BLOCK = 1 << 20
_SHOWN = 8


@dataclass(frozen=True)
class SampleFile:
    """At most `most` rows of a file, the first ones."""

    path: Path
    most: int = MOST
    option: str = "--sample"
    """The option that names the file, for messages."""

    def read(self, signature: Signature) -> Sampled:
        """As `Sample.read`. Raises UsageError for a file that cannot be read, or lacks columns or rows."""
        suffix = self.path.suffix.lower()
        if suffix not in SUFFIXES:
            raise UsageError(f"{self.option} {self.path}: expected a file that ends in {', '.join(SUFFIXES)}")
        read = {".csv": _csv, ".parquet": _parquet}.get(suffix, _json)
        try:
            return read(self.path, self.most, signature)
        except UsageError as error:
            raise UsageError(f"{self.option} {self.path}: {error}") from error
        except OSError as error:
            raise UsageError(
                f"{self.option} {self.path} cannot be read: {error.strerror or one_line(error)}"
            ) from error
        except (pa.ArrowException, ValueError) as error:
            raise UsageError(f"{self.option} {self.path} cannot be read: {one_line(error)}") from error


def _csv(path: Path, most: int, signature: Signature) -> Sampled:
    _require_utf8(path)
    with pa.csv.open_csv(path) as head:
        names = head.schema.names
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise UsageError(f"its first line is {names[0]!r}: columns are separated by commas in a CSV file")
    spread = _spread(signature, names)
    wanted = spread or _found(signature, names)
    types = {i.name: _csv_type(i) for i in signature.inputs if not spread} | dict.fromkeys(spread, pa.float64())
    options = pa.csv.ConvertOptions(
        include_columns=wanted, column_types=types, null_values=MISSING, strings_can_be_null=True
    )
    with pa.csv.open_csv(path, convert_options=options) as reader:
        table = _first(reader, reader.schema, most)
    arrays = [i.name for i in signature.inputs if i.name in wanted and i.is_array]
    for name in arrays:
        values = []
        for at, text in enumerate(table.column(name).to_pylist()):
            try:
                values.append(None if text is None else read_json(text))
            except ValueError:
                raise UsageError(f"row {at + 1}: {name} is {text[:40]!r}, expected an array such as [1, 2.5]") from None
        table = table.set_column(table.column_names.index(name), name, _json_column(name, values, None))
    times = [i for i in signature.inputs if i.name in wanted and pa.types.is_temporal(i.type)]
    texts = [i.name for i in signature.inputs if i.name in wanted and is_text(i.type)]

    def frame() -> Any:
        import pandas as pd  # noqa: PLC0415 -- optional, and slow to import

        dtypes = dict.fromkeys(texts, str)  # a text 007 stays 007
        read = pd.read_csv(path, nrows=most, parse_dates=[i.name for i in times], dtype=dtypes)
        dates = [i.name for i in times if pa.types.is_date(i.type) and not i.trained.dtype]
        return read.assign(
            **{name: read[name].map(read_json, na_action="ignore") for name in arrays},
            **{name: read[name].dt.date.astype(object).where(read[name].notna(), None) for name in dates},
        )

    return _sampled(path, signature, table, frame, names, spread)


def _parquet(path: Path, most: int, signature: Signature) -> Sampled:
    file = pq.ParquetFile(path)
    names = file.schema_arrow.names
    spread = _spread(signature, names)
    wanted = spread or _found(signature, names)
    schema = pa.schema([file.schema_arrow.field(name) for name in wanted])
    table = plain_types(_first(file.iter_batches(batch_size=most, columns=wanted), schema, most).select(wanted))

    def frame() -> Any:
        import pandas as pd  # noqa: PLC0415 -- as above

        return pd.read_parquet(path).head(most).reset_index(drop=True)

    return _sampled(path, signature, table, frame, names, spread)


def _json(path: Path, most: int, signature: Signature) -> Sampled:
    _require_utf8(path)
    text = path.read_text("utf-8-sig")
    try:  # a JSON array, or an object on each line
        whole = read_json(text) if text.lstrip().startswith("[") else [*islice(_lines(text), most)]
    except RepeatedKey as error:
        raise UsageError(str(error)) from None
    except ValueError as error:
        raise UsageError(f"it is neither a JSON array of objects nor one object on each line: {error}") from None
    rows: list[dict[str, Any]] = list(whole[:most])
    if wrong := [at for at, row in enumerate(rows) if not isinstance(row, dict)]:
        raise UsageError(f'row {wrong[0] + 1} is no object with the columns\' names, such as {{"age": 31}}')

    names = list(dict.fromkeys(name for row in rows for name in row))
    spread = _spread(signature, names)
    wanted = spread or _found(signature, names)
    kinds = {i.name: i for i in signature.inputs}
    columns = {name: _json_column(name, [row.get(name) for row in rows], kinds.get(name)) for name in wanted}

    def frame() -> Any:
        import pandas as pd  # noqa: PLC0415 -- as above

        return pd.DataFrame(rows)

    return _sampled(path, signature, pa.table(columns), frame, names, spread)


def _sampled(
    path: Path,
    signature: Signature,
    table: pa.Table,
    frame: Callable[[], Any],
    names: Sequence[str],
    spread: Sequence[str],
) -> Sampled:
    if not table.num_rows:
        raise UsageError("it has no rows: a sample needs one at least")
    batch = table.combine_chunks().to_batches()[0]
    columns = {}
    if spread:
        (lone,) = signature.inputs
        numbers = [column.to_pylist() for column in batch.columns]
        side_by_side = [list(row) for row in zip(*numbers, strict=True)]
        array = pa.array(side_by_side, pa.list_(pa.float64(), len(numbers)))
        batch = pa.RecordBatch.from_arrays([array], names=[lone.name])
        columns = {lone.name: tuple(spread)}
    whole = {i.name: i.type for i in signature.inputs if i.length is None and pa.types.is_integer(i.type)}
    batch = pa.RecordBatch.from_arrays(
        [
            _whole(column, name, whole[name]) if name in whole else column
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        ],
        names=batch.schema.names,
    )
    used = {i.name for i in signature.inputs} | set(spread)
    return Sampled(path.name, batch, frame, columns, tuple(name for name in names if name not in used))


def _whole(column: pa.Array, name: str, wanted: pa.DataType) -> pa.Array:
    """Whole numbers in the type of their input: a file has no widths, and pandas writes 3 as 3.0 if values are missing.

    Raises UsageError for a value that is none, or that the type does not hold.
    """
    if not (is_text(column.type) or pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return column
    try:
        try:
            return column.cast(wanted)
        except pa.ArrowInvalid:
            return column.cast(pa.float64()).cast(wanted)  # a text such as 3.0
    except pa.ArrowException as error:
        raise UsageError(f"column {name} has values that are no {wanted}, which the model wants: {error}") from error


def _spread(signature: Signature, names: Sequence[str]) -> list[str]:
    """The file's columns if together they feed the model's only input, an array of as many values; else none."""
    lone = signature.inputs[0]
    is_array = len(signature.inputs) == 1 and lone.length is not None and lone.name not in names
    return [*names] if is_array and len(names) == lone.length else []


def _found(signature: Signature, names: Sequence[str]) -> list[str]:
    """The names of the inputs. Raises UsageError naming those that the file lacks."""
    wanted = [i.name for i in signature.inputs]
    lacking = [name for name in wanted if name not in names]
    repeated = [name for name in wanted if names.count(name) > 1]
    if repeated:
        raise UsageError(f"the column {repeated[0]} stands in it {names.count(repeated[0])} times; which is meant?")
    if not lacking:
        return wanted
    shown = ", ".join(map(str, signature.inputs[:_SHOWN])) + ", ..." * (len(wanted) > _SHOWN)
    hint, first = near(lacking[0], list(names)).partition(" Known:")[0], signature.inputs[0]
    if len(wanted) == 1 and first.length is not None:
        hint = f" It may have {first.length} columns of numbers instead, and no other"
    raise UsageError(
        f"it has no column {', '.join(lacking[:_SHOWN])}. The model wants {shown}; the file has "
        f"{', '.join(names[:_SHOWN]) or 'no columns'}{', ...' * (len(names) > _SHOWN)}.{hint}"
    )


def _require_utf8(path: Path) -> None:
    decoder, read = codecs.getincrementaldecoder("utf-8")(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                raise UsageError(
                    f"it is not UTF-8: the byte 0x{error.object[error.start]:02x} near position "
                    f"{read + error.start:,}. Save it as UTF-8"
                ) from None
            read += len(block)


def _first(batches: Iterable[pa.RecordBatch], schema: pa.Schema, most: int) -> pa.Table:
    """The first `most` rows; no batch after them is read."""
    parts, rows = [], 0
    for part in batches:
        parts.append(part)
        rows += part.num_rows
        if rows >= most:
            break
    return pa.Table.from_batches(parts, schema).slice(0, most)


def _csv_type(wanted: Input) -> pa.DataType:
    """The type in which a CSV column is read: wide enough to notice numbers that do not fit the input."""
    if wanted.is_array:
        return pa.string()
    if pa.types.is_floating(wanted.type):
        return pa.float64()
    return pa.string() if pa.types.is_integer(wanted.type) else wanted.type


def _json_column(name: str, values: Sequence[Any], wanted: Input | None) -> pa.Array:
    """Values as Arrow sees them; dates and timestamps from their texts."""
    try:
        array = pa.array(values)
        if wanted is not None and is_text(array.type) and pa.types.is_temporal(wanted.type):
            return array.cast(wanted.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"column {name} holds values of different kinds: {one_line(error)}") from error
    if pa.types.is_null(array.type):
        return array.cast(wanted.column_type if wanted is not None else pa.string())
    return array


def _lines(text: str) -> Iterator[Any]:
    for number, line in enumerate(text.splitlines(), 1):
        try:
            if line.strip():
                yield read_json(line)
        except RepeatedKey as error:
            raise RepeatedKey(f"line {number}: {error}") from None
