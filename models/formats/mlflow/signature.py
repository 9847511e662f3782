"""The signature in an MLmodel file, as inputs and outputs; and rows in the form that it requires."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from scorebeat.core.errors import StoreError
from scorebeat.models.contract import Input
from scorebeat.models.formats.mlflow.outputs import Outputs, fields_of
from scorebeat.models.formats.shared.frame import frame
from scorebeat.models.inputs.matrix import matrix, no_nulls
from scorebeat.models.inputs.options import Matched, match_fixed, named_inputs

_TYPES = {
    "boolean": pa.bool_(),
    "integer": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "datetime": pa.timestamp("us"),
}
"""Arrow's names for MLflow's column types."""
_ARRAY = "features"


def inputs_of(signature: Any, declared: Sequence[str], file: str) -> Matched:
    """The inputs by the signature. Those of --inputs are matched with its names, or name its unnamed columns, or all
    inputs if there is no signature.

    Raises StoreError for too few or too many names, or for a type that no column can feed.
    """
    schema = getattr(signature, "inputs", None)
    if schema is None:
        if not declared:
            raise StoreError(
                f"{file} has no signature: name its inputs with their types, --inputs age:int64,city:string"
            )
        return Matched(named_inputs(declared, pa.float64()))
    if not schema.is_tensor_spec():
        specs = schema.inputs
        types = [_TYPES.get(getattr(spec.type, "name", "")) for spec in specs]
        if wrong := [f"{spec.name} is {spec.type}" for spec, t in zip(specs, types, strict=True) if t is None]:
            raise StoreError(f"{file}: {'; '.join(wrong)}, but a column must be one of {', '.join(_TYPES)}")
        if all(spec.name is not None for spec in specs):
            own = [Input(spec.name, t) for spec, t in zip(specs, types, strict=True)]
            return match_fixed(declared, own, file)
        if len(declared) != len(specs):
            raise StoreError(f"{file} wants {len(specs)} columns without names: name them with --inputs a,b,c")
        return Matched(tuple(named_inputs((name,), t)[0] for name, t in zip(declared, types, strict=True)))
    tensors = tuple(_tensor(spec, declared, file) for spec in schema.inputs)
    if declared and len(tensors) == 1:
        (tensor,) = tensors
        inputs = named_inputs(declared, tensor.type)
        width = tensor.length or 1
        if sum(i.length or 1 for i in inputs) != width:
            raise StoreError(f"{file} wants {width} values a row, but --inputs names {', '.join(declared)}")
        return Matched(inputs)
    return match_fixed(declared, tensors, file)


def outputs_of(signature: Any) -> Outputs | None:
    """The outputs by the signature; None if it lacks some of them."""
    schema = getattr(signature, "outputs", None)
    if schema is None:
        return None
    tensors = schema.is_tensor_spec()
    specs, fields = schema.inputs, []
    for spec in specs:
        arrow = _numpy_type(spec.type) if tensors else _TYPES.get(getattr(spec.type, "name", ""))
        shape = tuple(spec.shape) if tensors else (-1,)
        if arrow is None or any(width < 0 for width in shape[1:]) or (spec.name is None and len(specs) > 1):
            return None
        fields += fields_of(spec.name, arrow, shape)
    return Outputs(fields, tuple(spec.name for spec in specs if spec.name is not None))


def model_input(signature: Any, rows: pa.RecordBatch, inputs: Sequence[Input]) -> Any:
    """The rows as a DataFrame; if the signature has tensors, as an array or a dict of arrays."""
    schema = getattr(signature, "inputs", None)
    if schema is None or not schema.is_tensor_spec():
        return frame(rows, inputs)
    specs = schema.inputs
    if len(specs) == 1:
        return _array(specs[0], rows)
    return {spec.name: _array(spec, rows.select([at])) for at, spec in enumerate(specs)}


def _array(spec: Any, rows: pa.RecordBatch) -> Any:
    dtype = np.object_ if spec.type.kind in "OUS" else spec.type.type
    if spec.type.kind != "f":
        no_nulls(rows)
    # the model may write to it, and Arrow's memory is read-only
    values = np.require(matrix(rows, dtype, "C"), requirements="W")
    return values.reshape(rows.num_rows, *spec.shape[1:])


def _tensor(spec: Any, declared: Sequence[str], file: str) -> Input:
    arrow = _numpy_type(spec.type)
    if arrow is None:
        raise StoreError(f"{file}: {spec.name or 'its tensor'} is of {spec.type}, which no column holds")
    widths = spec.shape[1:]
    if any(width < 0 for width in widths):
        if len(widths) > 1 or not declared:
            raise StoreError(
                f"{file}: {spec.name or 'its tensor'} is {spec.shape}: name its values with --inputs a,b,c"
            )
        widths = (len(declared),)
    return Input(spec.name or _ARRAY, arrow, math.prod(widths) if widths else None)


def _numpy_type(dtype: Any) -> pa.DataType | None:
    if dtype.kind in "OUS":
        return pa.string()
    known = {"bool": "boolean", "int32": "integer", "int64": "long", "float32": "float", "float64": "double"}
    return _TYPES.get(known.get(str(dtype), ""))
