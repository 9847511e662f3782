"""What a person gives for a model, read: names and types of inputs, matched with what its file knows; and classes."""

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
"""pandas' own words for columns whose missing value is pd.NA, and for its texts."""
_DEFAULT_NAME = re.compile(r"(Column_|f|x|feature_?)?\d+")
"""Names that libraries invent for columns without names."""


@dataclass(frozen=True)
class Matched:
    """The inputs of a model, and what is to be said of them."""

    inputs: tuple[Input, ...]
    notes: tuple[str, ...] = ()


def named_inputs(given: Sequence[str], default: pa.DataType) -> tuple[Input, ...]:
    """Inputs as given: `a` has the type `default`; `review:string`, `pixels:float32[784]` and, in pandas' words,
    `at:datetime64[ns]` say theirs.

    Raises StoreError naming what cannot be read, or a name that stands there twice.
    """
    inputs = tuple(_input(text, default) for text in given)
    names = [i.name for i in inputs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise StoreError(f"--inputs names {', '.join(twice)} more than once")
    return inputs


def match_names(given: Sequence[str], own: Sequence[Input], file: str) -> Matched:
    """The inputs that a file names itself, in its order, with the names and types that were given.

    Names that the file has are found by name, whatever their order; one that differs in case, spaces or punctuation
    alone is still that name, since libraries and PostgreSQL change those. Names of which the file has none rename
    its columns by position, which a note says. Raises StoreError for names of which it has some and not all, and
    for a type that the column cannot have.
    """
    if not given:
        return Matched(tuple(own))
    wanted = named_inputs(given, pa.null())
    if set(given) == {i.name for i in own}:
        return Matched(tuple(own))
    position = {at: by for at, i in enumerate(wanted) if (by := _position(i.name, own, wanted)) is not None}
    if len(position) == len(wanted) == len(set(position.values())):
        typed = {by: _typed(wanted[at], own[by], file) for at, by in position.items()}
        return Matched(tuple(typed.get(by, each) for by, each in enumerate(own)))
    if position or _is_renamed_in_part(wanted, own):
        raise StoreError(_side_by_side(wanted, own, file))
    return _renamed(wanted, own, file)


def match_fixed(given: Sequence[str], own: Sequence[Input], file: str) -> Matched:
    """As `match_names`, for a file that says the types of its inputs itself. Raises StoreError for other types."""
    matched = match_names(given, own, file)
    wanted = {i.name: (i.type, i.length) for i in own}
    wrong = [str(i) for i in matched.inputs if wanted.get(i.trained_name) != (i.type, i.length)]
    if wrong:
        raise StoreError(f"{file} says the types of its inputs itself: leave those of {', '.join(wrong)} out")
    return matched


def _position(name: str, own: Sequence[Input], wanted: Sequence[Input]) -> int | None:
    """Which of the file's columns is meant by a name that was given; None if it has no such name."""
    names = [i.name for i in own]
    if name in names:
        return names.index(name)
    plain = [*map(_plain, names)]
    is_one = plain.count(_plain(name)) == 1 and [_plain(i.name) for i in wanted].count(_plain(name)) == 1
    return plain.index(_plain(name)) if is_one else None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.strip()).casefold()


def _is_renamed_in_part(wanted: Sequence[Input], own: Sequence[Input]) -> bool:
    return len(wanted) != len(own) and sum(i.length or 1 for i in wanted) != len(own)


def _typed(wanted: Input, own: Input, file: str) -> Input:
    """The file's column with the name and the type that were given."""
    trained = replace(own.trained, name="" if wanted.name == own.trained_name else own.trained_name)
    if pa.types.is_null(wanted.type):
        return replace(own, name=wanted.name, trained=trained)
    if trained.categories and is_text(own.type) != is_text(wanted.type):
        raise StoreError(
            f"{file}: --inputs says that {wanted.name} is {wanted.type}, but it was fitted on the categories "
            f"{', '.join(map(repr, trained.categories[:5]))}: leave the type out"
        )
    if is_text(own.type) and pa.types.is_boolean(wanted.type):
        trained = replace(trained, null="")  # a later step saw texts, so it says nothing of NULL before
    dtype = wanted.trained.dtype or trained.dtype
    return Input(wanted.name, wanted.type, wanted.length, replace(trained, dtype=dtype))


def _renamed(wanted: Sequence[Input], own: Sequence[Input], file: str) -> Matched:
    """By position: the names have nothing in common."""
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


def _side_by_side(wanted: Sequence[Input], own: Sequence[Input], file: str) -> str:
    names, called = [i.name for i in own], [i.name for i in wanted]
    strange = [i.name for i in wanted if _position(i.name, own, wanted) is None]
    meant = {_position(name, own, wanted) for name in called}
    absent = [name for at, name in enumerate(names) if at not in meant]
    return (
        f"{file} was fitted on the columns {', '.join(names)}, but --inputs names "
        f"{', '.join(map(repr, strange))}: fitted on {_list(names)}; --inputs {_list(called)}; not among them "
        f"{_list(absent)}. Give names that the file has, in any order, or new names for all {len(names)} in its order"
    )


def _list(names: Sequence[str]) -> str:
    return f"[{', '.join(names)}]"


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
        named, dtype = _type(found["type"].strip()) if found["type"] else (default, "")
    except ModelError as error:
        raise StoreError(f"--inputs: {text!r}: {error}") from None
    return Input(found["name"].strip(), named, int(length) if length else None, Trained(dtype=dtype))


def _type(name: str) -> tuple[pa.DataType, str]:
    """A type by its name in a signature, or by the word of pandas for the dtype that training had."""
    if times := _TIMES.fullmatch(name):
        return pa.timestamp("us", "UTC" if times["zone"] else None), re.sub(", *", ", ", name)
    if name in _NULLABLE:
        return _NULLABLE[name], name
    return type_named(name), ""


def classes_of(given: Sequence[str], count: int, what: str) -> list[str]:
    """A classifier's classes as given, or none; raises StoreError where their number is another."""
    if given and len(given) != count:
        raise StoreError(f"{what} has {count} classes, but --classes names {len(given)}: {', '.join(given[:8])}")
    return list(given)
