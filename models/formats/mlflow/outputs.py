"""What a pyfunc model returns, in any of the forms that MLflow allows, as output columns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from scorebeat.core.errors import OutputError, StoreError
from scorebeat.models.arrow_types import WIDER, type_name
from scorebeat.models.formats.shared import tensors
from scorebeat.models.inputs.matrix import Matrix
from scorebeat.models.outputs.checks import assembled
from scorebeat.models.outputs.column_names import LABEL

_STORED = {
    **WIDER,
    **{pa.timestamp(unit): pa.timestamp("us") for unit in ("s", "ms", "ns")},
}
"""The types in which values are stored whose own type no signature may name."""


@dataclass(frozen=True)
class Outputs:
    """The output columns, and the names under which the model returns them; no names if it returns an array."""

    fields: tensors.Fields
    parts: tuple[str, ...]


def outputs_seen_in(returned: Any) -> Outputs:
    """The outputs of a model that returned this. Raises StoreError or ModelError if no table can store it."""
    parts = _named(returned)
    if not parts:
        values = _array(returned)
        return Outputs(fields_of(None, _stored(_column(values.ravel()).type), values.shape), ())
    fields = [
        field
        for name, values in parts.items()
        for field in fields_of(name, _stored(_column(values.ravel()).type), values.shape)
    ]
    return Outputs(fields, tuple(parts))


def fields_of(name: str | None, arrow: pa.DataType, shape: Sequence[int]) -> tensors.Fields:
    """Columns of a tensor of [rows, ...]; without a name they are `label`, or `value` if they are floats."""
    if len(shape) > 2:
        raise StoreError(f"the model returns a tensor of shape {list(shape)}: more axes than [rows, values]")
    own = name or ("value" if pa.types.is_floating(arrow) or len(shape) > 1 else LABEL)
    return tensors.fields(own, arrow, (*shape, 1)[1])


def columns(returned: Any, parts: Sequence[str], outputs: pa.Schema) -> list[pa.Array]:
    """The output columns of what a model returned, cast if that loses nothing. Raises OutputError for another form."""
    found = _named(returned)
    if found and (absent := [name for name in parts if name not in found]):
        raise OutputError(f"the model returned {', '.join(found)}, and not {', '.join(absent)}")
    values = [found[name] for name in parts or found] if found else [_array(returned)]
    arrays: list[pa.Array] = []
    for each in values:
        if each.dtype == object and (each.ndim == 1 or each.shape[1] <= tensors.WIDE):
            arrays += [_column(column) for column in each.reshape(len(each), -1).T]
        else:
            arrays += tensors.arrays(each)
    whole = assembled(arrays, outputs.names)
    return [_cast(array, field) for array, field in zip(whole.columns, outputs, strict=True)]


def arrays_of(returned: Any, parts: Sequence[str]) -> list[Matrix]:
    """The arrays that a model returned, unchanged; in the order of `parts` if these name them."""
    found = _named(returned)
    return [found[name] for name in parts or found] if found else [_array(returned)]


def _named(returned: Any) -> dict[str, Matrix]:
    """The named parts of a table, dict or list of dicts; none of an array."""
    if isinstance(returned, list) and returned and isinstance(returned[0], Mapping):
        returned = pd.DataFrame(returned)
    if isinstance(returned, pd.DataFrame):
        return {str(name): returned.iloc[:, at].to_numpy() for at, name in enumerate(returned.columns)}
    if isinstance(returned, Mapping):
        return {str(name): _array(values) for name, values in returned.items()}
    if isinstance(returned, pd.Series) and returned.name is not None:
        return {str(returned.name): returned.to_numpy()}
    return {}


def _array(values: Any) -> Matrix:
    dense: Callable[[], Any] | None = getattr(values, "toarray", None)
    return np.atleast_1d(np.asarray(values if dense is None else dense()))


def _stored(found: pa.DataType) -> pa.DataType:
    stored = _STORED.get(found, found)
    type_name(stored)  # raises for a type that cannot be stored
    return stored


def _column(values: Matrix) -> pa.Array:
    return pa.array(values, from_pandas=values.dtype == object)


def _cast(column: pa.Array, field: pa.Field) -> pa.Array:
    if _STORED.get(column.type) != field.type and not pa.types.is_null(column.type):
        return column  # the check of all outputs casts what is lossless
    try:
        return column.cast(field.type)
    except pa.ArrowException as error:
        raise OutputError(f"the model's column {field.name!r} does not fit {field.type}: {error}") from error
