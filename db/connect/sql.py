"""Quoting, keys as texts, and comparing keys: by PostgreSQL only, as row values when there are several."""

from collections.abc import Sequence
from dataclasses import dataclass

Key = tuple[str, ...]
"""One key as PostgreSQL writes it, a text a key column."""


@dataclass(frozen=True)
class KeyColumn:
    """A key column of a query; `type` is its PostgreSQL type without modifier, fit for a cast."""

    name: str
    type: str
    read_as: frozenset[str] = frozenset()
    """Names that the ADBC driver has for the type."""
    send: str = ""
    """The function that returns a value as PostgreSQL itself sends it; "": the driver writes what it read."""
    size: tuple[int, ...] = ()
    """The type's modifier, such as 20 of varchar(20) or 10 and 2 of numeric(10,2); empty: none."""
    cast: str = ""
    """By which a text is read up to a length; "": whole."""

    @property
    def is_read_twice(self) -> bool:
        """A second column comes with it: the text of what is sent, or what shows the type before the cast."""
        return bool(self.send or self.cast)


@dataclass(frozen=True)
class KeyRange:
    """A range of keys, including both ends."""

    first: Key
    last: Key
    numbers: tuple[int, int] | None = None
    """The first and the last row number, for rows of a run's snapshot."""


def ident(name: str) -> str:
    """The name as a quoted identifier."""
    if "\0" in name:
        raise ValueError("an identifier cannot hold a NUL character")
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """The value as a quoted text literal that means the same under all settings: a backslash is in `E'...'` only."""
    if "\0" in value:
        raise ValueError("PostgreSQL text cannot hold a NUL character")
    quoted = "'" + value.replace("'", "''").replace("\\", "\\\\") + "'"
    return f" E{quoted}" if "\\" in value else quoted


def subquery(query: str, alias: str = "q") -> str:
    """The query as a table; the newline ends a comment that the query may close with."""
    inner = query.rstrip("; \t\r\n")
    return f"(\n{inner}\n) AS {alias}"


def columns(keys: Sequence[KeyColumn], alias: str) -> str:
    return ", ".join(f"{alias}.{ident(k.name)}" for k in keys)


def row(keys: Sequence[KeyColumn], alias: str) -> str:
    """The key as one comparable value: a column, or a row of several columns."""
    return columns(keys, alias) if len(keys) == 1 else f"({columns(keys, alias)})"


def value(keys: Sequence[KeyColumn], key: Key) -> str:
    """A key as a typed literal that compares with `row`."""
    parts = [f"{literal(text)}::{k.type}" for k, text in zip(keys, key, strict=True)]
    return parts[0] if len(parts) == 1 else f"({', '.join(parts)})"


def within(keys: Sequence[KeyColumn], alias: str, keep: KeyRange) -> str:
    """SQL condition: the key is in the range."""
    ends = f"{row(keys, alias)} >= {value(keys, keep.first)} AND {row(keys, alias)} <= {value(keys, keep.last)}"
    if len(keys) == 1:
        return ends
    # implied, but the planner does not see that the ends of a row belong together and expects a large part
    # of the table between them
    return f"{ends} AND {within(keys[:1], alias, KeyRange(keep.first[:1], keep.last[:1]))}"


def after(keys: Sequence[KeyColumn], alias: str, key: Key) -> str:
    return f"{row(keys, alias)} > {value(keys, key)}"


def among(keys: Sequence[KeyColumn], alias: str, wanted: Sequence[Key]) -> str:
    """SQL condition: the key is in the list. One column uses the index by ANY, several by a join."""
    arrays = [f"ARRAY[{', '.join(literal(key[i]) for key in wanted)}]::{k.type}[]" for i, k in enumerate(keys)]
    if len(keys) == 1:
        return f"{columns(keys, alias)} = ANY ({arrays[0]})"
    return f"{row(keys, alias)} IN (SELECT * FROM unnest({', '.join(arrays)}))"


def as_text(value: str, kind: str) -> str:
    """An SQL expression of type `kind` as the text of a key in the ledger: UTC and ISO dates under all settings."""
    return _AS_TEXT.get(kind, "{0}::text").format(value)


def texts(keys: Sequence[KeyColumn], alias: str) -> str:
    """The key columns as texts, for reading a `Key`."""
    return ", ".join(as_text(f"{alias}.{ident(k.name)}", k.type) for k in keys)


def whole(keys: Sequence[KeyColumn], alias: str) -> list[str]:
    """The key columns as `db.batch_io.columns` reads and stores them: as they are, or as sent beside their text."""
    selected = []
    for k in keys:
        value = f"{alias}.{ident(k.name)}"
        if k.send:
            selected += [f"{k.send}({value}) AS {ident(k.name)}", as_text(value, k.type)]
        elif k.cast:
            selected += [f"{value}{k.cast} AS {ident(k.name)}", f"CASE WHEN false THEN {value} END"]
        else:
            selected.append(value)
    return selected


_ISO = "btrim(to_json({0})::text, '\"')"
"""JSON has dates in ISO form by definition."""
_AS_TEXT = {
    "date": _ISO,
    "timestamp without time zone": f"replace({_ISO}, 'T', ' ')",
    "timestamp with time zone": (
        "CASE WHEN isfinite({0}) THEN regexp_replace(replace("
        + _ISO.format("({0} AT TIME ZONE 'UTC')")
        + ", 'T', ' '), '( BC)?$', E'+00\\\\1') ELSE {0}::text END"
    ),
    "bytea": "E'\\\\x' || encode({0}, 'hex')",
    "inet": "abbrev({0})",  # as psql shows it; a cast would show the mask of a single host
}
"""Expressions of types whose `::text` depends on a setting of the session, or is not what psql shows."""


def same_key(keys: Sequence[KeyColumn], left: str, right: str) -> str:
    return " AND ".join(f"{left}.{ident(k.name)} = {right}.{ident(k.name)}" for k in keys)


def numbered(query: str, column: str) -> str:
    """The query with a number for each row it returns, in a first column of this name."""
    return f"SELECT row_number() OVER () AS {ident(column)}, q.* FROM ({query.rstrip().rstrip(';')}\n) q"
