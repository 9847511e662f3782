"""What a person gives for a model, read: names and types of inputs, and classes."""

import re
from collections.abc import Sequence

import pyarrow as pa

from scorebeat.core.errors import ModelError, StoreError
from scorebeat.models.arrow_types import type_named
from scorebeat.models.contract import Input

_WITH_TYPE = re.compile(r"(?P<name>[^:]+)(:(?P<type>[^\[\]]+(\[us(, UTC)?\])?)(\[(?P<length>[0-9]+)\])?)?")


def named_inputs(given: Sequence[str], default: pa.DataType) -> tuple[Input, ...]:
    """Inputs as given: `a` has the type `default`, `review:string` and `pixels:float32[784]` say theirs.

    Raises StoreError naming what cannot be read, or a name that stands there twice.
    """
    inputs = tuple(_input(text, default) for text in given)
    names = [i.name for i in inputs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise StoreError(f"--inputs names {', '.join(twice)} more than once")
    return inputs


def _input(text: str, default: pa.DataType) -> Input:
    found = _WITH_TYPE.fullmatch(text.strip())
    if found is None:
        raise StoreError(
            f"--inputs: {text!r} is neither a name nor a name with its type, such as review:string or "
            "pixels:float32[784]"
        )
    length = found["length"]
    if length == "0":
        raise StoreError(f"--inputs: {text!r}: an array must have at least one element")
    try:
        named = type_named(found["type"]) if found["type"] else default
    except ModelError as error:
        raise StoreError(f"--inputs: {text!r}: {error}") from None
    return Input(found["name"].strip(), named, int(length) if length else None)


def classes_of(given: Sequence[str], count: int, what: str) -> list[str]:
    """A classifier's classes as given, or none; raises StoreError where their number is another."""
    if given and len(given) != count:
        raise StoreError(f"{what} has {count} classes, but --classes names {len(given)}: {', '.join(given[:8])}")
    return list(given)
