"""Reads a person's options for a model: names and types of inputs, which are matched with its file's, and classes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from scorebeat.core.errors import ModelError, StoreError
from scorebeat.models.arrow_types import is_text, type_named
from scorebeat.models.contract import Input, Trained

_WITH_TYPE = re.compile(r"(?P<name>[^:]+)(:(?P<type>[^\[\]]+(\[[^\[\]0-9][^\[\]]*\])?)(\[(?P<length>[0-9]+)\])?)?")
_TIMES = re.compile(r"datetime64\[(s|ms|us|ns)(, *(?P<zone>[\w/+-]+))?\]")
_NULLABLE = {"Int64": pa.int64(), "Float64": pa.float64(), "boolean": pa.bool_(), "str": pa.string()}
"""pandas' names of dtypes whose missing value is pd.NA, and of its texts."""
_DEFAULT_NAME = re.compile(r"(Column_|f|x|feature_?)?\d+")
"""Names that libraries invent for columns without names."""


@dataclass(frozen=True)
class Matched:
    """The inputs of a model, and notes on how they were matched."""

    inputs: tuple[Input, ...]
    notes: tuple[str, ...] = ()


def named_inputs(declared: Sequence[str], default: pa.DataType) -> tuple[Input, ...]:
    """The inputs of --inputs: `a` has the type `default`; `review:string`, `pixels:float32[784]` and, with a dtype of
    pandas, `at:datetime64[ns]` have their own.

    Raises StoreError naming what cannot be read, or a name that is used twice.
    """
    inputs = []
    for text in declared:
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
            named, dtype = _type(found["type"].strip()) if found["type"] else (default, "")
        except ModelError as error:
            raise StoreError(f"--inputs: {text!r}: {error}") from None
        inputs.append(Input(found["name"].strip(), named, int(length) if length else None, Trained(dtype=dtype)))
    names = [i.name for i in inputs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise StoreError(f"--inputs names {', '.join(twice)} more than once")
    return tuple(inputs)


def _type(name: str) -> tuple[pa.DataType, str]:
    """A type by its name in a signature, or by pandas' name of a dtype; and that dtype, if it is one."""
    if times := _TIMES.fullmatch(name):
        return pa.timestamp("us", "UTC" if times["zone"] else None), re.sub(", *", ", ", name)
    if name in _NULLABLE:
        return _NULLABLE[name], name
    return type_named(name), ""


def match_names(declared: Sequence[str], own: Sequence[Input], file: str) -> Matched:
    """The inputs that a file names itself, in its order, with the names and types of --inputs.

    Names are matched in any order. A name that differs only in case, spaces or punctuation still matches, because
    libraries and PostgreSQL change those. If no name matches, the names rename the file's columns by position, as a
    note says. Raises StoreError if only some names match, and for a type that the column cannot have.
    """
    if not declared:
        return Matched(tuple(own))
    wanted = named_inputs(declared, pa.null())
    if set(declared) == {i.name for i in own}:
        return Matched(tuple(own))
    positions = {at: found for at, i in enumerate(wanted) if (found := _position(i.name, own, wanted)) is not None}
    if len(positions) == len(wanted) == len(set(positions.values())):
        typed = {found: _typed(wanted[at], own[found], file) for at, found in positions.items()}
        return Matched(tuple(typed.get(at, each) for at, each in enumerate(own)))
    is_in_part = len(wanted) != len(own) and sum(i.length or 1 for i in wanted) != len(own)
    if not positions and not is_in_part:
        return _match_by_position(wanted, own, file)
    names = ", ".join(i.name for i in own)
    called = ", ".join(i.name for i in wanted)
    unknown = ", ".join(repr(i.name) for at, i in enumerate(wanted) if at not in positions)
    absent = ", ".join(i.name for at, i in enumerate(own) if at not in positions.values())
    raise StoreError(
        f"{file} was fitted on the columns {names}, but --inputs names {unknown}: fitted on [{names}]; --inputs "
        f"[{called}]; not among them [{absent}]. Give names that the file has, in any order, or new names for all "
        f"{len(own)} in its order"
    )


def match_fixed(declared: Sequence[str], own: Sequence[Input], file: str) -> Matched:
    """As `match_names`, for a file that has the types of its inputs. Raises StoreError for other types."""
    matched = match_names(declared, own, file)
    wanted = {i.name: (i.type, i.length) for i in own}
    wrong = [str(i) for i in matched.inputs if wanted.get(i.trained_name) != (i.type, i.length)]
    if wrong:
        raise StoreError(f"{file} says the types of its inputs itself: leave those of {', '.join(wrong)} out")
    return matched


def _position(name: str, own: Sequence[Input], wanted: Sequence[Input]) -> int | None:
    """The position of the file's column that a name of --inputs matches; None if no column matches."""
    names = [i.name for i in own]
    if name in names:
        return names.index(name)
    plain = [*map(_plain, names)]
    is_one = plain.count(_plain(name)) == 1 and [_plain(i.name) for i in wanted].count(_plain(name)) == 1
    return plain.index(_plain(name)) if is_one else None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.strip()).casefold()


def _typed(wanted: Input, own: Input, file: str) -> Input:
    """The file's column with the name and type of --inputs."""
    trained = replace(own.trained, name="" if wanted.name == own.trained_name else own.trained_name)
    if pa.types.is_null(wanted.type):
        return replace(own, name=wanted.name, trained=trained)
    if trained.categories and is_text(own.type) != is_text(wanted.type):
        raise StoreError(
            f"{file}: --inputs says that {wanted.name} is {wanted.type}, but it was fitted on the categories "
            f"{', '.join(map(repr, trained.categories[:5]))}: leave the type out"
        )
    if is_text(own.type) and pa.types.is_boolean(wanted.type):
        trained = replace(trained, null="")  # a later step got texts, so it does not show what NULL was before it
    dtype = wanted.trained.dtype or trained.dtype
    return Input(wanted.name, wanted.type, wanted.length, replace(trained, dtype=dtype))


def _match_by_position(wanted: Sequence[Input], own: Sequence[Input], file: str) -> Matched:
    """The inputs of --inputs, none of which the file names, for the file's columns in their order."""
    if any(i.length for i in wanted):
        inputs = tuple(replace(i, type=own[0].type) if pa.types.is_null(i.type) else i for i in wanted)
    else:
        inputs = tuple(_typed(i, each, file) for i, each in zip(wanted, own, strict=True))
    if all(_DEFAULT_NAME.fullmatch(each.name) for each in own):
        return Matched(inputs)
    pairs = ", ".join(f"{each.name} is called {i.name}" for i, each in zip(inputs, own, strict=False))
    if len(inputs) != len(own):
        pairs = f"{', '.join(i.name for i in inputs)} hold {', '.join(each.name for each in own)} in this order"
    return Matched(
        inputs,
        (f"none of the names of --inputs is one that {file} was fitted on, so they were taken by position: {pairs}",),
    )


def classes_of(declared: Sequence[str], count: int, what: str) -> list[str]:
    """The classes of --classes, or none. Raises StoreError if the classifier has another number of classes."""
    if declared and len(declared) != count:
        raise StoreError(f"{what} has {count} classes, but --classes names {len(declared)}: {', '.join(declared[:8])}")
    return list(declared)
