"""Two prediction sets side by side: how far they agree, how much they cover, whether an output is constant."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from sqlalchemy import Connection, text

from scorebeat.db.connect import user_sql
from scorebeat.db.connect.sql import ident, same_key, subquery
from scorebeat.db.predictions import prediction_sets, views
from scorebeat.db.predictions.prediction_sets import RESERVED, PredictionSet
from scorebeat.db.source.source import Source
from scorebeat.db.source.values.types import column_type

_NUMBERS = frozenset({"int2", "int4", "int8", "float4", "float8"})
_LISTS = frozenset({"_float4", "_float8"})
_KINDS = (frozenset({"smallint", "integer", "bigint"}), frozenset({"real", "double precision"}),
          frozenset({"real[]", "double precision[]"}))  # fmt: skip
"""Groups of types; a reader of one type of a group can read the others too."""
_LABEL = "label"
"""The difference of two classes means nothing, even if they are numbers."""


@dataclass(frozen=True)
class OutputAgreement:
    """One output over the rows that both sets have; a value is None if it has no meaning, or there are no such rows."""

    output: str
    equal: float | None
    """Share of rows with the same value; NULL equals NULL, and NaN equals NaN."""
    largest_difference: float | None
    """Absolute; over elements if the output is a list. NaN if only one set has NaN in a row."""
    mean_difference: float | None


@dataclass(frozen=True)
class Agreement:
    """A set compared with another; only rows that readers would see count."""

    rows: int
    rows_other: int
    rows_both: int
    outputs: tuple[OutputAgreement, ...]
    """Outputs that both sets have."""
    only: tuple[str, ...]
    only_other: tuple[str, ...]
    changed: tuple[str, ...]
    """Outputs whose types cannot be compared: `label text, was bigint`."""
    constant: tuple[str, ...]
    """Outputs of the set that have the same value in all its rows; empty if it has fewer than two."""


@dataclass(frozen=True)
class _Columns:
    keys: tuple[str, ...]
    outputs: dict[str, str]
    """Name to `pg_type.typname`, in column order."""


def compare(connection: Connection, one: PredictionSet, other: PredictionSet) -> Agreement:
    """How far the sets agree, in one pass over both."""
    mine, theirs = _columns(connection, one), _columns(connection, other)
    shared = [name for name in mine.outputs if name in theirs.outputs]
    alike = [name for name in shared if _comparable(mine.outputs[name], theirs.outputs[name])]
    measures = [part for name in alike for part in _measures(name, mine.outputs[name])]
    on = " AND ".join(f"x.{ident(key)} = y.{ident(key)}" for key in mine.keys)
    found = connection.exec_driver_sql(
        f"SELECT (SELECT count(*) {views.rows(one)}), (SELECT count(*) {views.rows(other)}),"
        f" {', '.join(['count(*)', *measures])}"
        f" FROM (SELECT * {views.rows(one)}) AS x JOIN (SELECT * {views.rows(other)}) AS y ON {on}"
    ).one()
    rows, rows_other, both, *values = found
    outputs = [OutputAgreement(name, *values[3 * i : 3 * i + 3]) for i, name in enumerate(alike)]
    return Agreement(
        rows,
        rows_other,
        both,
        tuple(outputs),
        tuple(name for name in mine.outputs if name not in theirs.outputs),
        tuple(name for name in theirs.outputs if name not in mine.outputs),
        tuple(f"{name} {mine.outputs[name]}, was {theirs.outputs[name]}" for name in shared if name not in alike),
        tuple(constant(connection, one, least=2)),
    )


def changed(outputs: pa.Schema, before: pa.Schema) -> list[str]:
    """Outputs that both have, with types that old readers cannot read, such as `label as text instead of bigint`."""
    both = [name for name in before.names if name in outputs.names]
    kinds = {name: (_stored(outputs, name), _stored(before, name)) for name in both}
    return [
        f"{name} as {now} instead of {was}"
        for name, (now, was) in kinds.items()
        if now != was and not any({now, was} <= kind for kind in _KINDS)
    ]


def _stored(outputs: pa.Schema, name: str) -> str:
    kind = outputs.field(name).type
    return column_type(kind) or str(kind)


def covered(
    connection: Connection, source: Source, one: PredictionSet | None, other: PredictionSet, *, of_all_runs: bool
) -> tuple[int, int]:
    """Number of rows of the current query that `other` has, and how many of them `one` has too.

    Rows that left the query are not counted: no new version could score them. `of_all_runs`: the query returns other
    rows for each run, so all rows of `other` are counted.
    """
    mine = f"SELECT * {views.rows(one)}" if one else f"SELECT * {views.rows(other)} AND false"
    first = ident(source.keys[0].name)
    rows = f"{subquery(source.query)} JOIN (SELECT * {views.rows(other)}) AS y ON {same_key(source.keys, 'q', 'y')}"
    if of_all_runs:
        rows = f"(SELECT * {views.rows(other)}) AS q"
    found = user_sql.rows(
        connection,
        f"SELECT count(*), count(x.{first}) FROM {rows} LEFT JOIN ({mine}) AS x ON {same_key(source.keys, 'q', 'x')}",
    )[0]
    return found[0], found[1]


def count(connection: Connection, one: PredictionSet) -> int:
    """Number of rows that readers would see."""
    return int(connection.exec_driver_sql(f"SELECT count(*) {views.rows(one)}").scalar_one())


def has_rows(connection: Connection, one: PredictionSet) -> bool:
    """Whether readers would see a row."""
    return bool(connection.exec_driver_sql(f"SELECT EXISTS (SELECT 1 {views.rows(one)})").scalar_one())


def outputs(connection: Connection, one: PredictionSet) -> list[str]:
    """Names of the set's columns that are neither its key nor the ledger's, in their order."""
    return list(_columns(connection, one).outputs)


def constant(connection: Connection, one: PredictionSet, least: int = 1) -> list[str]:
    """The outputs with the same value in all rows; empty if there are fewer than `least` rows."""
    names = outputs(connection, one)
    same = [f"bool_and(x.{ident(name)} IS NOT DISTINCT FROM y.{ident(name)})" for name in names]
    rows, *alike = connection.exec_driver_sql(
        f"SELECT {', '.join(['count(*)', *same])} FROM (SELECT * {views.rows(one)}) AS x"
        f" CROSS JOIN (SELECT * {views.rows(one)} LIMIT 1) AS y"
    ).one()
    return [name for name, same_in_all in zip(names, alike, strict=True) if same_in_all and rows >= least]


def _comparable(one: str, other: str) -> bool:
    return one == other or any({one, other} <= kinds for kinds in (_NUMBERS, _LISTS))


def _measures(name: str, kind: str) -> Sequence[str]:
    """SQL: share of equal values, largest and mean difference."""
    x, y = f"x.{ident(name)}", f"y.{ident(name)}"
    equal = f"avg(({x} IS NOT DISTINCT FROM {y})::int)::float8"
    if kind in _LISTS:
        each = f"(SELECT {{}}({_difference('a', 'b')}) FROM unnest({x}, {y}) AS u (a, b))"
        return equal, f"max({each.format('max')})", f"avg({each.format('avg')})"
    if kind in _NUMBERS and name != _LABEL:
        return equal, f"max({_difference(x, y)})", f"avg({_difference(x, y)})"
    return equal, "NULL", "NULL"


def _difference(x: str, y: str) -> str:
    return f"CASE WHEN {x} IS NOT DISTINCT FROM {y} THEN 0 ELSE abs({x}::float8 - {y}::float8) END"


def _columns(connection: Connection, found: PredictionSet) -> _Columns:
    rows = connection.execute(
        text(
            f"SELECT a.attname, t.typname, coalesce(a.attnum = ANY ({prediction_sets.key_numbers('s')}), false)"
            " FROM scorebeat.prediction_sets s"
            " JOIN pg_attribute a ON a.attrelid = to_regclass(:table) JOIN pg_type t ON t.oid = a.atttypid"
            " WHERE s.id = :set AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
        ),
        {"set": found.id, "table": found.table},
    ).all()
    outputs = {name: kind for name, kind, is_key in rows if not is_key and name not in RESERVED}
    return _Columns(tuple(name for name, _, is_key in rows if is_key), outputs)
