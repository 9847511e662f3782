"""The closed set of Arrow types that a signature may name, and which of them convert without loss."""

from collections.abc import Callable, Mapping

import pyarrow as pa

from scorebeat.core.errors import ModelError

_NAMED: dict[str, pa.DataType] = {
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.string(),
    "date32": pa.date32(),
    "timestamp[us]": pa.timestamp("us"),
    "timestamp[us, UTC]": pa.timestamp("us", "UTC"),
    "list<float32>": pa.list_(pa.float32()),
    "list<float64>": pa.list_(pa.float64()),
}
TYPES = tuple(_NAMED.values())

_WIDER = {
    pa.int16(): {pa.int32(), pa.int64()},
    pa.int32(): {pa.int64()},
    pa.float32(): {pa.float64()},
}


def type_name(arrow_type: pa.DataType) -> str:
    """The name that a signature stores for this type. Raises ModelError outside the closed set."""
    for name, known in _NAMED.items():
        if known.equals(arrow_type):
            return name
    raise ModelError(f"type {arrow_type} cannot be in a signature; known types: {', '.join(_NAMED)}")


def type_named(name: object) -> pa.DataType:
    """The type of that name. Raises ModelError for an unknown name."""
    if isinstance(name, str) and name in _NAMED:
        return _NAMED[name]
    raise ModelError(f"unknown type {name!r} in a signature; known types: {', '.join(_NAMED)}")


def is_list(arrow_type: pa.DataType) -> bool:
    """Whether it is an array column, of fixed length or not."""
    kinds: tuple[Callable[[pa.DataType], bool], ...] = (
        pa.types.is_list,
        pa.types.is_large_list,
        pa.types.is_fixed_size_list,
    )
    return any(kind(arrow_type) for kind in kinds)


def element_type(arrow_type: pa.DataType) -> pa.DataType:
    """The type of the elements of an array column; any other type itself."""
    return arrow_type.value_type if is_list(arrow_type) else arrow_type


def is_number(arrow_type: pa.DataType) -> bool:
    """Whether it holds numbers or truth values."""
    kinds = (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean)
    return any(kind(arrow_type) for kind in kinds)


def is_text(arrow_type: pa.DataType) -> bool:
    """Whether it holds strings, in any of Arrow's layouts."""
    if pa.types.is_dictionary(arrow_type):
        return is_text(arrow_type.value_type)
    kinds: tuple[Callable[[pa.DataType], bool], ...] = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
    )
    return any(kind(arrow_type) for kind in kinds)


def lossless(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether every value of `found` is the same value in `wanted`."""
    if found.equals(wanted) or wanted in _WIDER.get(found, ()):
        return True
    if is_text(found) and pa.types.is_string(wanted):
        return True
    if is_list(found) and pa.types.is_list(wanted):
        return lossless(found.value_type, wanted.value_type)
    return False


WIDER: Mapping[pa.DataType, pa.DataType] = {
    pa.int8(): pa.int16(),
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.int64(),
    pa.float16(): pa.float32(),
    pa.large_string(): pa.string(),
}
"""Types that no signature may name, each with a type that holds all its values."""
