"""Rows as a user has them in a notebook, for the library's own predict."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scorebeat.models.arrow_types import WIDER, is_list, is_text
from scorebeat.models.contract import Input, Signature
from scorebeat.models.inputs.matrix import Matrix
from scorebeat.models.inputs.samples import Sampled

_Change = Callable[[Any, Input], Any]
_WIDER = {**WIDER, pa.string_view(): pa.string(), pa.date64(): pa.date32()}


@dataclass(frozen=True)
class OwnRows:
    """Rows under the names of a model's inputs, without any conversion of ours."""

    signature: Signature
    rows: pa.RecordBatch
    """The rows in Arrow, if pandas is not installed."""
    table: Any
    """A pandas DataFrame; None if pandas is not installed."""
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Inputs that are fed by several columns of the table."""
    is_from_person: bool = False
    """Whether the rows are a person's: then the table has the types that it would have in a notebook."""

    @classmethod
    def of(cls, signature: Signature, sampled: Sampled) -> "OwnRows":
        """A person's rows."""
        try:
            table = sampled.frame()
        except ImportError:
            table = None
        return cls(signature, sampled.rows, table, sampled.columns, sampled.is_from_person)

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    def frame(self, names: Sequence[str]) -> Any:
        """A DataFrame with the columns that training had: under those names, or the inputs in their order."""
        renamed = {i.name: i.trained_name for i in self.signature.inputs}
        if set(renamed.values()) <= set(names):  # a column that the model drops may be absent
            table = self.table.rename(columns=renamed)
            return table[[name for name in names if name in table.columns]]
        found = self.table[[*renamed]]
        return found.set_axis(names, axis=1) if len(names) == len(renamed) else found

    def column(self, name: str) -> Matrix:
        """One input's values; [rows, values] of an array."""
        found: Matrix
        if name in self.columns:
            found = np.column_stack([self._values(each) for each in self.columns[name]])
            return found
        found = self._values(name)
        if found.dtype == object and len(found) and isinstance(found[0], np.ndarray | list | tuple):
            found = np.stack([np.asarray(each) for each in found])
        return found

    def matrix(self, dtype: Any = np.float64) -> Matrix:
        """All inputs side by side."""
        parts = [self.column(i.name) for i in self.signature.inputs]
        return np.column_stack([part.reshape(len(self), -1) for part in parts]).astype(dtype)

    def forms(self) -> Iterator["OwnRows"]:
        """The same rows in the forms that they may have in a notebook.

        A file does not distinguish NaN from None, nor texts from categories that the model knows. Rows that we
        invented may have any type that the model's file or its inputs name.
        """
        yield self
        if self.table is None:
            return
        yield self._changed(lambda column, i: _as_trained(column, i) if i.trained.dtype == "category" else column)
        yield self._changed(_none_for_missing)
        yield self._changed(_nan_for_missing)
        yield self._changed(_as_trained)
        if self.is_from_person:
            return
        yield self._changed(_as_declared)
        yield self._changed(lambda column, i: column.astype("category") if is_text(i.type) else column)

    def with_categories(self) -> "OwnRows":
        """The same rows with the categories of training, for a library that takes plain numbers for their codes."""
        return self._changed(lambda column, i: _as_trained(column, i) if i.trained.categories else column)

    def _changed(self, change: _Change) -> "OwnRows":
        inputs = {i.name: i for i in self.signature.inputs if i.name in self.table.columns}
        return replace(self, table=self.table.assign(**{n: change(self.table[n], i) for n, i in inputs.items()}))

    def _values(self, name: str) -> Matrix:
        found: Matrix
        if self.table is not None:
            found = self.table[name].to_numpy()
            return found
        found = self.rows.column(name).to_numpy(zero_copy_only=False)
        return found


def frame_of(rows: pa.RecordBatch) -> Any:
    """Arrow columns as a DataFrame, by pandas' own conversion. Raises ImportError without pandas."""
    import pandas as pd  # noqa: F401, PLC0415 -- optional, and slow to import

    return pa.Table.from_batches([rows]).to_pandas()


def _as_trained(column: Any, wanted: Input) -> Any:
    """The column in the dtype of training, if the model's file has it."""
    import pandas as pd  # noqa: PLC0415 -- optional, and slow to import

    trained = wanted.trained
    if trained.dtype == "category":
        return column.astype(
            pd.CategoricalDtype(pd.Index(trained.categories, dtype=trained.index or None), trained.ordered)
        )
    return column.astype(trained.dtype) if trained.dtype else column


def _none_for_missing(column: Any, wanted: Input) -> Any:
    is_open = is_text(wanted.type) or (pa.types.is_boolean(wanted.type) and bool(wanted.trained.null))
    if not is_open or is_list(wanted.type):
        return column
    plain = column.astype(object)
    return plain.where(plain.notna(), None)


def _nan_for_missing(column: Any, wanted: Input) -> Any:
    plain = _none_for_missing(column, wanted)
    return plain if plain is column else plain.where(plain.notna(), np.nan)


def _as_declared(column: Any, wanted: Input) -> Any:
    """The column in the type that the model's file declares."""
    if wanted.is_array or is_text(wanted.type):
        return column
    if column.isna().any() and not pa.types.is_floating(wanted.type):
        return column
    return column.astype(wanted.type.to_pandas_dtype())


def plain_types(rows: pa.Table) -> pa.Table:
    """Columns in the types that a query returns: PostgreSQL has no int8, no unsigned numbers, no nanoseconds."""
    return pa.table([_plain(column) for column in rows.columns], names=rows.column_names)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(pc.cast(column, kind.value_type))
    if pa.types.is_timestamp(kind):
        return pc.cast(column, pa.timestamp("us", "UTC" if kind.tz else None), safe=False)
    if pa.types.is_decimal(kind):
        return pc.cast(column, pa.float64())
    return column.cast(_WIDER[kind]) if kind in _WIDER else column
