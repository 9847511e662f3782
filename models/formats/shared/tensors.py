"""A tensor of [rows] or [rows, values] as output columns, from any library."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scorebeat.core.errors import OutputError, one_line
from scorebeat.models.formats.shared.labels import Labels, class_columns
from scorebeat.models.inputs.matrix import Matrix
from scorebeat.models.outputs.column_names import LABEL

WIDE = 64
"""A tensor with more values a row is stored as one array column: an embedding, not named columns."""
Fields = list[tuple[str, pa.DataType]]


def fields(name: str, arrow: pa.DataType, width: int, classes: Sequence[str] = ()) -> Fields:
    """Columns of a tensor with `width` values a row: `name`, `name_0` ..., the classes, or one array."""
    if width > WIDE:
        return [(name, pa.list_(arrow))]
    if width == 1:
        return [(name, arrow)]
    names = classes if len(classes) == width else [f"{name}_{at}" for at in range(width)]
    return [(each, arrow) for each in names]


def arrays(values: Matrix) -> list[pa.Array]:
    """The columns of a tensor of [rows] or [rows, values], in the order of `fields`."""
    if values.ndim == 2 and values.shape[1] > WIDE:
        flat = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
        return [flat.cast(pa.list_(flat.type.value_type))]
    columns = np.asfortranarray(values.reshape(len(values), -1))
    return [pa.array(column) for column in columns.T]


def typed(values: Any, wanted: pa.DataType, name: str) -> pa.Array:
    """Values that a model returned, as a column of that type. Raises OutputError for a value that it does not hold."""
    may_lack = isinstance(values, np.ndarray) and values.dtype.kind == "O" and not pa.types.is_floating(wanted)
    try:
        return pa.array(values, wanted, from_pandas=may_lack)  # among objects NaN is a missing value
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:  # UnicodeError is a ValueError
        raise OutputError(f"the model returned values for {name!r} that are not {wanted}: {one_line(error)}") from error


def class_fields(classes: NDArray[Any], arrow: pa.DataType) -> Fields:
    """A classifier's columns: the label, and one of probabilities a class."""
    return [(LABEL, Labels(classes).type), *((name, arrow) for name in class_columns(classes))]


def class_arrays(labels: Labels, probabilities: Matrix, labels_of: Callable[[NDArray[np.intp]], Any]) -> list[pa.Array]:
    """The columns of `class_fields`, of [rows, classes]; `labels_of(positions)` returns the labels of near ties."""
    columns = np.asfortranarray(probabilities)
    return [labels.most_probable(columns, labels_of), *map(pa.array, columns.T)]
