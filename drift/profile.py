"""What a run's inputs and outputs look like: counts, quantiles and frequent values of samples, which can be merged."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from hashlib import blake2b
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasketches import frequent_items_error_type, frequent_strings_sketch, kll_doubles_sketch

ACCURACY = 400
"""Parameter k of the KLL sketches: the share of values in an interval is right within 0.86 % of the rows, with 99 %
confidence (Karnin, Lang and Liberty, 2016, as Apache DataSketches builds it)."""
COUNTERS = 9
"""Binary logarithm of the size of the sketches of frequent values: 384 values are counted exactly, more than
`MOST_VALUES` and `FEW` together, which a merge may hold for a while."""
FEW = 50
"""A column with more different values in a sample is not one of categories: its values are not counted."""
MOST_VALUES = 150
"""The same for samples that were merged."""
SAMPLE = 1_000
"""Rows of a full batch that are looked at."""
SHARED_BY = 5
"""A text is stored only if so many rows of one sample have it; a rarer one is counted by a digest."""
LENGTH = " (length)"
"""After the name of an array, the measure of how many elements it has."""
LONGEST_VALUE = 1_000
"""Bytes of a text; a column with a longer one is no category, and its texts are not looked at one by one."""
LONGEST_NAME = 64
"""Characters of a text that is stored."""

_KINDS = {
    "text": ("string", "large_string"),
    "bool": ("bool",),
    "timestamp": ("date", "timestamp"),
    "time": ("time", "duration"),
    "array": ("list", "large_list", "fixed_size_list"),
    "bytes": ("binary", "large_binary", "fixed_size_binary"),
    "other": ("struct", "map", "union", "dense_union", "sparse_union"),
}
"""Beginnings of the names that Arrow gives to types; all others are numbers. `timestamp` is tried before `time`."""

Values = np.ndarray[Any, np.dtype[np.float64]]


@dataclass
class Column:
    """The profile of one measure of a column: its values, or the lengths or norms of them."""

    type: str
    """The type of the column, as Arrow calls it."""
    rows: int = 0
    """Rows of the sample."""
    nulls: int = 0
    nans: int = 0
    infinite: int = 0
    mean: float = 0.0
    """Of the finite numbers."""
    squares: float = 0.0
    """Sum of the squared distances from the mean."""
    numbers: kll_doubles_sketch = field(default_factory=lambda: kll_doubles_sketch(ACCURACY))
    """Quantiles of the finite numbers; of texts, their lengths in characters."""
    values: frequent_strings_sketch = field(default_factory=lambda: frequent_strings_sketch(COUNTERS))
    """How often each value was seen, by `_label`; empty unless `has_few_values`."""
    names: dict[str, str] = field(default_factory=dict)
    """Texts by the label under which `values` counts them, if they are known."""
    has_few_values: bool = True
    """Whether no sample had more than `FEW` different values."""
    crowded: int = 0
    """Rows of samples that had."""

    @property
    def missing(self) -> float:
        """The share of rows with NULL or NaN."""
        return (self.nulls + self.nans) / self.rows if self.rows else 0.0

    @property
    def kind(self) -> str | None:
        """What can be compared with each other: numbers, texts, arrays …; None for a column without a type."""
        if self.type == "null":
            return None
        for kind, prefixes in _KINDS.items():
            if self.type.startswith(prefixes):
                return kind
        return "number"

    @property
    def deviation(self) -> float:
        """The standard deviation of the finite numbers."""
        count = self.numbers.n
        return float(np.sqrt(self.squares / (count - 1))) if count > 1 else 0.0

    def quantiles(self, ranks: Iterable[float]) -> list[float]:
        """Values at these ranks from 0 to 1; empty without a number."""
        return [] if self.numbers.is_empty() else [float(q) for q in self.numbers.get_quantiles(list(ranks))]

    def counts(self) -> dict[str, int]:
        """Rows by label, the most frequent first; empty unless the column has few values."""
        if not self.has_few_values or self.values.is_empty():
            return {}
        found = self.values.get_frequent_items(frequent_items_error_type.NO_FALSE_NEGATIVES)
        return {label: int(estimate) for label, estimate, _, _ in found}

    def name(self, label: str) -> str:
        """The value as a person reads it. A text that too few rows share is known by its digest only."""
        return self.names.get(label, label)

    def merge(self, other: Self) -> None:
        """Add the rows of another profile of the same measure.

        Means and squares by the pairwise update of Chan, Golub and LeVeque (1979).
        """
        ours, theirs = self.numbers.n, other.numbers.n
        if theirs:
            step = other.mean - self.mean
            self.mean += step * theirs / (ours + theirs)
            self.squares += other.squares + step * step * ours * theirs / (ours + theirs)
        self.numbers.merge(other.numbers)
        self.rows, self.nulls, self.nans = self.rows + other.rows, self.nulls + other.nulls, self.nans + other.nans
        self.infinite, self.crowded = self.infinite + other.infinite, self.crowded + other.crowded
        self.has_few_values = self.has_few_values and other.has_few_values
        if self.has_few_values:
            self.values.merge(other.values)
            self.names = {**other.names, **self.names}
            self.has_few_values = self.values.num_active_items <= MOST_VALUES
        if not self.has_few_values:
            self.values, self.names = frequent_strings_sketch(COUNTERS), {}

    def add_numbers(self, numbers: Values) -> None:
        """Add the values of a sample, of which there is one."""
        finite = numbers[np.isfinite(numbers)]
        self.nans += int(np.isnan(numbers).sum())
        self.infinite += int(np.isinf(numbers).sum())
        if len(finite):
            self.numbers.update(finite)
            with np.errstate(over="ignore", invalid="ignore"):  # of numbers such as 1e300 there is no mean
                self.mean = float(finite.mean())
                self.squares = float(np.square(finite - self.mean).sum())

    def head(self) -> dict[str, Any]:
        """Everything but the sketches, as JSON."""
        sketches = ("numbers", "values")
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in sketches}


@dataclass
class Profile:
    """Profiles of the measures of a model's inputs and outputs."""

    inputs: dict[str, Column] = field(default_factory=dict)
    """By the name of the input; of an array there are `NAME (length)` and `NAME (norm)`, of its length and Euclidean
    norm."""
    outputs: dict[str, Column] = field(default_factory=dict)
    failures: int = 0
    """Batches of which no profile could be made, or none that can be read."""
    failure: str | None = None
    """Why, of the first."""

    @property
    def rows(self) -> int:
        """Rows of the sample."""
        return max((column.rows for column in (*self.inputs.values(), *self.outputs.values())), default=0)

    @classmethod
    def of(cls, inputs: pa.RecordBatch, outputs: pa.RecordBatch) -> Self:
        """The profile of rows that a model got, and of what it returned for them."""
        return cls(_measures(inputs), _measures(outputs))

    def merge(self, other: Self) -> None:
        """Add the rows of a profile of other rows of the same model."""
        self.failures += other.failures
        self.failure = self.failure or other.failure
        for ours, theirs in ((self.inputs, other.inputs), (self.outputs, other.outputs)):
            for name, column in theirs.items():
                if name in ours:
                    ours[name].merge(column)
                else:
                    ours[name] = replace(column)

    def to_bytes(self) -> bytes:
        """The profile for the ledger: a line of JSON, then the sketches in its order."""
        heads: dict[str, Any] = {"inputs": {}, "outputs": {}, "failures": self.failures, "failure": self.failure}
        parts: list[bytes] = []
        for side, columns in (("inputs", self.inputs), ("outputs", self.outputs)):
            for name, column in columns.items():
                sketches = column.numbers.serialize(), column.values.serialize()
                heads[side][name] = column.head() | {"sizes": [len(sketch) for sketch in sketches]}
                parts += sketches
        return b"".join([json.dumps(heads).encode(), b"\n", *parts])

    @classmethod
    def from_bytes(cls, stored: bytes) -> Self:
        """The profile that `to_bytes` stored."""
        line, _, rest = stored.partition(b"\n")
        heads, at, sides = json.loads(line), 0, []
        for side in ("inputs", "outputs"):
            columns = {}
            for name, head in heads[side].items():
                first, second = head.pop("sizes")
                middle, end = at + first, at + first + second
                columns[name] = Column(
                    **head,
                    numbers=kll_doubles_sketch.deserialize(rest[at:middle]),
                    values=frequent_strings_sketch.deserialize(rest[middle:end]),
                )
                at = end
            sides.append(columns)
        # one that an older release stored knows of no failure
        inputs, outputs = sides
        return cls(inputs, outputs, heads.get("failures", 0), heads.get("failure"))


def _measures(rows: pa.RecordBatch) -> dict[str, Column]:
    found: dict[str, Column] = {}
    for name, sent in zip(rows.schema.names, rows.columns, strict=True):
        values = sent.dictionary_decode() if pa.types.is_dictionary(sent.type) else sent
        column = Column(str(values.type), rows.num_rows, values.null_count)
        if column.kind == "array":
            found |= _of_arrays(name, values)
            continue
        found[name] = column
        column.add_numbers(_numbers(column, values.drop_null()))
        if column.kind in ("text", "bool", "number"):
            _count_values(column, values)
        else:
            column.has_few_values = False
    return found


def _numbers(column: Column, present: pa.Array) -> Values:
    """The values as numbers: of texts and bytes their lengths, of times their seconds; none of what has no number."""
    arrow_type = present.type
    match column.kind:
        case "text":
            present = pc.utf8_length(present)
        case "bytes":
            present = pc.binary_length(present)
        case "bool":
            present = present.cast(pa.int8())
        case "timestamp":
            # nanoseconds are cut: no unit that Arrow has holds every date and each of them
            present = pc.divide(
                present.cast(pa.timestamp("us"), safe=False).cast(pa.int64()).cast(pa.float64(), safe=False), 1e6
            )
        case "time":
            parts = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[arrow_type.unit]
            whole = present.cast(pa.int32() if arrow_type.bit_width == 32 else pa.int64())
            present = pc.divide(whole.cast(pa.float64()), parts)
        case "other" | None:
            return np.empty(0)
    numbers: Values = present.to_numpy(zero_copy_only=False).astype(np.float64)
    return numbers


def _of_arrays(name: str, arrays: pa.Array) -> dict[str, Column]:
    """Lengths and Euclidean norms: the elements themselves have no meaning one by one. Texts have no norm."""
    lengths, norms = (Column(str(arrays.type), len(arrays), arrays.null_count) for _ in range(2))
    present = arrays.drop_null()
    sizes = pc.list_value_length(present).to_numpy(zero_copy_only=False)
    lengths.add_numbers(sizes.astype(np.float64))
    norms.has_few_values = lengths.has_few_values = False
    element = arrays.type.value_type
    if not (pa.types.is_integer(element) or pa.types.is_floating(element) or pa.types.is_boolean(element)):
        return {f"{name}{LENGTH}": lengths}
    elements = pc.list_flatten(present).cast(pa.float64()).to_numpy(zero_copy_only=False)
    rows = np.repeat(np.arange(len(sizes)), sizes)
    with np.errstate(over="ignore"):
        norms.add_numbers(np.sqrt(np.bincount(rows, weights=np.square(elements), minlength=len(sizes))))
    return {f"{name}{LENGTH}": lengths, f"{name} (norm)": norms}


def _count_values(column: Column, values: pa.Array) -> None:
    """Count the values of a sample that has few different ones."""
    present = values.drop_null()
    is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    if (
        (is_text and (pc.max(pc.binary_length(present)).as_py() or 0) > LONGEST_VALUE)
        or len(set(present.slice(0, 4 * FEW).to_pylist())) > FEW
        or len(counted := pc.value_counts(present)) > FEW
    ):
        column.has_few_values, column.crowded = False, column.rows
        return
    for found in counted.to_pylist():
        value, count = found["values"], found["counts"]
        label = _label(value)
        column.values.update(label, count)
        if is_text and count >= SHARED_BY and len(value) <= LONGEST_NAME:
            column.names[label] = value


def _label(value: object) -> str:
    """A text's digest, by which nobody learns a text that he does not know; other values as they are written."""
    if isinstance(value, str):
        return f"#{blake2b(value.encode('utf-8', 'surrogatepass'), digest_size=6).hexdigest()}"
    return str(value).lower() if isinstance(value, bool) else str(value)
