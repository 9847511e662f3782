"""The binding of a query's columns to a model's inputs: made once and applied to every batch."""

from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scorebeat.core.errors import InputError, SignatureError
from scorebeat.models.arrow_types import element_type, is_list, is_number, is_text, lossless, type_name
from scorebeat.models.contract import Input, Signature


@dataclass(frozen=True)
class Binding:
    """The conversion of a query's rows to a model's rows."""

    inputs: tuple[Input, ...]
    sources: tuple[str, ...]
    """The query's column for each input, or one array column that feeds them all with its elements."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The query's columns that the model needs; no other has to be fetched."""
        return tuple(dict.fromkeys(self.sources))

    def apply(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Exactly the model's inputs, in order, for as many rows; no Python object is made for a row.

        Raises InputError naming the positions in `rows` of arrays with another length than the input's, or
        the column with a value outside the range of the input's type.
        """
        name = self.sources[0]
        if is_list(rows.schema.field(name).type) and not self.inputs[0].is_array:  # each element feeds an input
            whole = _array(name, rows.column(name), len(self.inputs))
            values = whole.values
            if values.null_count or not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
                elements = (pc.list_element(whole, index) for index in range(len(self.inputs)))
            else:  # a strided copy takes a tenth of the time of list_element
                table = values.to_numpy().reshape(len(whole), len(self.inputs))
                elements = (pa.array(np.ascontiguousarray(column)) for column in table.T)
            arrays = [_one(name, element, wanted) for element, wanted in zip(elements, self.inputs, strict=True)]
        else:
            arrays = [
                _one(source, rows.column(source), wanted)
                if wanted.length is None
                else _array(source, rows.column(source), wanted.length, wanted.type)
                for source, wanted in zip(self.sources, self.inputs, strict=True)
            ]
        schema = pa.schema([(i.name, i.column_type) for i in self.inputs])
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


def bind(signature: Signature, columns: pa.Schema) -> Binding:
    """Match a model's inputs with the query's columns (all but its key).

    Inputs are found by name, whatever the order; surplus columns are ignored. One array column feeds
    the only array input whatever its name, or as many named inputs as it has elements. Raises
    SignatureError with the model's inputs beside the query's columns, and all mismatches.
    """
    inputs = signature.inputs
    problems = [problem for i in inputs if (problem := _problem(i, columns))]
    if not problems:
        return Binding(inputs, tuple(i.name for i in inputs))
    array = _only_array(inputs, columns)
    if array is not None:
        return Binding(inputs, (array,) * len(inputs))
    wants = ["the model wants", *map(str, inputs)]
    gives = ["the query gives", *(f"{f.name} {'text' if is_text(f.type) else f.type}" for f in columns)]
    wide = max(map(len, wants)) + 3
    raise SignatureError(
        "\n".join(
            [
                "the query does not feed the model:",
                *(f"  {left.ljust(wide)}{right}".rstrip() for left, right in zip_longest(wants, gives, fillvalue="")),
                *(f"  - {problem}" for problem in problems),
                "Rename or cast columns in the query (SELECT a AS b, c::float8), or add the model with --inputs",
            ]
        )
    )


def _problem(wanted: Input, columns: pa.Schema) -> str | None:
    count = columns.names.count(wanted.name)
    if count != 1:
        return f"{wanted.name}: the query has {count or 'no'} such column{'s' if count else ''}"
    found = columns.field(wanted.name).type
    fits = _fits(found, wanted.type) if wanted.length is None else _feeds(found, wanted.length, wanted.type)
    if fits:
        return None
    problem = f"{wanted.name}: {found} cannot become {wanted.column_type}"
    if not (pa.types.is_boolean(found) and wanted.length is None and is_text(wanted.type)):
        return problem
    return (  # PostgreSQL writes true, Python True
        f"{problem}. If training had truth values, do not cast it: add the model with --inputs {wanted.name}:bool"
    )


def _fits(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Numbers and truth values, also in arrays, may become floats: that rounds as in training on floats."""
    if is_list(wanted):
        return is_list(found) and _fits(found.value_type, wanted.value_type)
    if pa.types.is_floating(wanted):
        return is_number(found)
    if pa.types.is_integer(wanted):
        return pa.types.is_boolean(found) or lossless(found, wanted)
    return lossless(found, wanted) or (is_text(found) and is_text(wanted))


def _feeds(found: pa.DataType, length: int, element: pa.DataType) -> bool:
    if not is_list(found) or not _fits(found.value_type, element):
        return False
    return not pa.types.is_fixed_size_list(found) or found.list_size == length


def _only_array(inputs: tuple[Input, ...], columns: pa.Schema) -> str | None:
    arrays = [field for field in columns if is_list(field.type)]
    named = {i.name for i in inputs} & {f.name for f in columns if not is_list(f.type)}
    if len(arrays) != 1 or named:  # a query that names one input is not meant to feed the array
        return None
    lone = inputs[0].length if len(inputs) == 1 else None
    if lone is None and any(i.length is not None for i in inputs):
        return None
    length = lone or len(inputs)
    return arrays[0].name if all(_feeds(arrays[0].type, length, i.type) for i in inputs) else None


def _array(name: str, column: pa.Array, length: int, element: pa.DataType | None = None) -> pa.Array:
    """The column as a FixedSizeList of `length` elements without an offset, cast to `element` unless None."""
    lengths = pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(lengths != length)
    if len(wrong):
        shown = ", ".join(f"row {row} ({'NULL' if lengths[row] < 0 else lengths[row]})" for row in wrong[:5].tolist())
        raise InputError(
            f"{name} must hold arrays of {length} elements, but {len(wrong)} of {len(lengths)} rows do not: "
            f"{shown}{', ...' if len(wrong) > 5 else ''}"
        )
    if pa.types.is_fixed_size_list(column.type):
        start = column.offset * length
    else:
        start = column.offsets[0].as_py() if len(column) else 0
    values = column.values.slice(start, len(column) * length)
    values = values if element is None else _cast(name, values, element)
    return pa.FixedSizeListArray.from_arrays(values, length)


def _one(name: str, values: pa.Array, wanted: Input) -> pa.Array:
    """The values of an input that is no array."""
    if wanted.trained.exact and pa.types.is_integer(values.type) and pa.types.is_floating(wanted.type):
        try:
            return pc.cast(values, wanted.type)
        except pa.ArrowException as error:
            raise InputError(
                f"{name} has whole numbers that {type_name(wanted.type)} does not hold, which the model's own code may "
                f"distinguish from rounded ones: add the model with --inputs {wanted.name}:int64, or, if rounded ones "
                f"are right, write {name}::float8 in the query: {error}"
            ) from error
    return _cast(name, values, wanted.type)


def _cast(name: str, values: pa.Array, wanted: pa.DataType) -> pa.Array:
    """The values in the type of an input. Raises InputError for values that it cannot hold."""
    if values.type.equals(wanted):
        return values
    element = element_type(wanted)
    try:
        if pa.types.is_float32(element_type(values.type)) and pa.types.is_float64(element):
            values = as_written(values)
        # a float may round an integer or a longer float, as in training on floats
        cast = pc.cast(values, wanted, safe=not pa.types.is_floating(element))
    except pa.ArrowException as error:
        raise InputError(f"{name} has values that cannot become {type_name(wanted)}: {error}") from error
    if pa.types.is_float32(element) and pa.types.is_float64(element_type(values.type)):
        before, after = (each.flatten() if is_list(each.type) else each for each in (values, cast))
        ends = pc.min_max(after).as_py()
        if ends["min"] == -np.inf or ends["max"] == np.inf:
            lost = pc.sum(pc.and_(pc.is_inf(after), pc.is_finite(before))).as_py()
            if lost:  # a finite number became infinite
                raise InputError(f"{name} has {lost} values beyond what float32 holds, which is 3.4e38")
    return cast


def as_written(values: pa.Array) -> pa.Array:
    """Floats, or lists of them, as texts: a `real` of 0.1 is 0.1, as in psql and pandas, not 0.10000000149011612."""
    return pc.cast(values, pa.list_(pa.string()) if is_list(values.type) else pa.string())
