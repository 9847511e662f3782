"""The documented mapping from PostgreSQL types to Arrow, and from a model's outputs to columns."""

from dataclasses import dataclass

import pyarrow as pa

FLOATS = pa.list_(pa.float64())


@dataclass(frozen=True)
class Reading:
    """How a column of one PostgreSQL type is read: an SQL cast (or none), and the resulting Arrow type."""

    arrow: pa.DataType
    cast: str = ""


_READ: dict[str, Reading] = {
    "int2": Reading(pa.int16()),
    "int4": Reading(pa.int32()),
    "int8": Reading(pa.int64()),
    "float4": Reading(pa.float32()),
    "float8": Reading(pa.float64()),
    "numeric": Reading(pa.float64(), "::float8"),
    "bool": Reading(pa.bool_()),
    "text": Reading(pa.string()),
    "varchar": Reading(pa.string()),
    "bpchar": Reading(pa.string()),
    "name": Reading(pa.string(), "::text"),
    "date": Reading(pa.date32()),
    "timestamp": Reading(pa.timestamp("us")),
    "timestamptz": Reading(pa.timestamp("us", tz="UTC")),
    "uuid": Reading(pa.string(), "::text"),
    "_int2": Reading(pa.list_(pa.int16())),
    "_int4": Reading(pa.list_(pa.int32())),
    "_int8": Reading(pa.list_(pa.int64())),
    "_float4": Reading(pa.list_(pa.float32())),
    "_float8": Reading(FLOATS),
    "_numeric": Reading(FLOATS, "::float8[]"),
    "_text": Reading(pa.list_(pa.string())),
    "_varchar": Reading(pa.list_(pa.string()), "::text[]"),
    # JSON arrays of numbers; db.source.fetched_values turns the text into a list
    "json": Reading(FLOATS, "::text"),
    "jsonb": Reading(FLOATS, "::text"),
}
JSON = ("json", "jsonb")
_AS_READ = ("int2", "int4", "int8", "uuid", "text", "varchar", "date", "timestamp", "timestamptz", "bool")
"""Types of keys that the driver writes back as it read them."""
_AS_SENT = ("numeric", "bpchar", "citext", "bytea", "inet", "cidr", "macaddr", "macaddr8")
"""Types of keys that the driver does not read, or not write: PostgreSQL's own bytes are copied. So are enums'."""
_LONGEST = {
    "bool": 1, "int2": 2, "int4": 4, "float4": 4, "date": 4, "int8": 8, "float8": 8, "timestamp": 8, "timestamptz": 8,
    "numeric": 8, "uuid": 36, "name": 256, "macaddr": 17, "macaddr8": 23, "inet": 50, "cidr": 50,
}  # fmt: skip
"""Bytes of the longest value of a type as the driver reads it, as an input column or as a key; a label has 63 bytes,
which may be more in UTF-8."""
BYTES_OF_A_CHARACTER = 4
"""At most, in UTF-8."""
THROUGH_TEXT = ("numeric",)
"""Types whose bytes the driver cannot write either."""
KEYS = (*_AS_READ, *_AS_SENT)

READABLE = (
    "integers, floats, numeric, boolean, text, enum, dates, timestamps, uuid, "
    "arrays of numbers or text, JSON arrays of numbers"
)

_WRITE: dict[pa.DataType, str] = {
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.float32(): "real",
    pa.float64(): "double precision",
    pa.bool_(): "boolean",
    pa.string(): "text",
    pa.date32(): "date",
    pa.timestamp("us"): "timestamp",
    pa.timestamp("us", tz="UTC"): "timestamptz",
    pa.list_(pa.float32()): "real[]",
    pa.list_(pa.float64()): "double precision[]",
}


def reading(type_name: str, kind: str) -> Reading | None:
    """How a column of `pg_type.typname` and `typtype` is read; None if it is not supported."""
    return Reading(pa.string(), "::text") if kind == "e" else _READ.get(type_name)


def most_bytes(type_name: str, kind: str, size: tuple[int, ...]) -> int | None:
    """Bytes that no value of a column takes more of; `size` is its type's modifier. None: no bound is known.

    Of texts of any length, without the texts.
    """
    if kind == "e":
        return _LONGEST["name"]
    if type_name == "bpchar" and size:
        return size[0] * BYTES_OF_A_CHARACTER
    return 0 if is_text(type_name) else _LONGEST.get(type_name)


def is_text(type_name: str) -> bool:
    """Whether its values are read as texts, of any length: that of varchar(9) may be raised while a run goes on."""
    return type_name in ("text", "varchar", *JSON)


def is_key(type_name: str, kind: str) -> bool:
    """Whether a key may be of `pg_type.typname` and `typtype`."""
    return type_name in KEYS or kind == "e"


def is_copied(type_name: str) -> bool:
    """Whether a key of this type is stored as PostgreSQL sends it."""
    return type_name not in _AS_READ


def names(type_name: str, oid: int) -> frozenset[str]:
    """Names that the driver may have for a type: it does not know names of user-defined types."""
    return frozenset((type_name, f"unnamed<oid:{oid}>"))


def column_type(output: pa.DataType) -> str | None:
    """The PostgreSQL type that stores a model's output; None if it is not supported."""
    return _WRITE.get(output)
