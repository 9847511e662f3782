"""The key of a prediction table compared with the query's key: whether it is wide enough, and widening it."""

from dataclasses import dataclass

import psycopg2.errors
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import NotPermitted, SignatureError
from scorebeat.db.connect.sql import KeyColumn, ident
from scorebeat.db.predictions import prediction_sets, views
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.schema import ownership
from scorebeat.db.source.source import CASTABLE, Source

_WIDER = {
    "smallint": ("integer", "bigint"),
    "integer": ("bigint",),
    "character varying": ("text",),
}
"""For each type, wider types that hold all its keys with the same texts and in the same order."""
_WITH_SIZE = ("character varying", "bpchar", "numeric")


@dataclass(frozen=True)
class _Stored:
    """A key column of the table; a domain is replaced by its base type."""

    name: str
    type: str
    modifier: int
    collation: str | None

    @property
    def size(self) -> tuple[int, ...]:
        """As `KeyColumn.size`."""
        if self.modifier < 4 or self.type not in _WITH_SIZE:
            return ()
        packed = self.modifier - 4
        return (packed >> 16, packed & 0x7FF) if self.type == "numeric" else (packed,)


def require_comparable(connection: Connection, source: Source, found: PredictionSet) -> None:
    """Raises SignatureError if the job's key is quite another than that of the stored predictions."""
    _narrow_columns(source, found, _stored(connection, found))


def require_room(connection: Connection, source: Source, found: PredictionSet) -> None:
    """Raises SignatureError unless the table can store each key of the query."""
    stored = _stored(connection, found)
    wider = _narrow_columns(source, found, stored)
    if wider:
        raise SignatureError(
            f"{_widening(source, found, stored)} since this run began: it cannot go on. Its rows are pending, and "
            "the next run widens the table, or names who may"
        )


def change(connection: Connection, source: Source, found: PredictionSet) -> str | None:
    """A sentence if the key is wider now than the table's, else None. Raises SignatureError if it is quite another."""
    stored = _stored(connection, found)
    return _widening(source, found, stored) if _narrow_columns(source, found, stored) else None


def make_room(connection: Connection, source: Source, found: PredictionSet) -> None:
    """Widen the table's key to the query's, if that is wider: the predictions stay.

    Only the ledger's owner can. Raises SignatureError if the key is quite another or others depend on the table,
    NotPermitted with the command for the owner, ViewBusy or ViewInUse; nothing was changed then.
    """
    stored = _stored(connection, found)
    wider = _narrow_columns(source, found, stored)
    if not wider:
        return
    if not ownership.is_owner(connection):
        raise NotPermitted(
            f"{_widening(source, found, stored)}. Only the ledger's owner, {ownership.owner(connection)}, can widen "
            "it, which `scorebeat apply` under it does; nothing was changed, and no prediction is lost"
        )
    parts = [_alter(key, old) for key, old in wider]

    def widen() -> None:
        # a large table is rewritten, which may take longer than our other statements may
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        with views.without_view(connection, found), ownership.as_owner(connection, f"widen the key of {found.table}"):
            for table in filter(None, (found.table, found.history)):
                connection.exec_driver_sql(f"ALTER TABLE {table} {', '.join(parts)}")

    try:
        views.switch_with_retries(connection, found.job, widen)
    except DBAPIError as error:
        if not isinstance(error.orig, psycopg2.errors.FeatureNotSupported):
            raise
        raise SignatureError(
            f"{_widening(source, found, stored)}, and it cannot be widened: {error.orig.diag.message_primary}: "
            f"{error.orig.diag.message_detail}. Drop what reads the table itself and run `scorebeat apply`; nothing "
            "was changed"
        ) from None


def _stored(connection: Connection, found: PredictionSet) -> list[_Stored]:
    rows = connection.execute(
        text(
            "WITH RECURSIVE plain (oid, base, modifier) AS (SELECT oid, oid, -1 FROM pg_type WHERE typtype <> 'd'"
            " UNION ALL SELECT d.oid, plain.base, greatest(d.typtypmod, plain.modifier)"
            " FROM pg_type d JOIN plain ON plain.oid = d.typbasetype WHERE d.typtype = 'd')"
            f" SELECT a.attname, {CASTABLE.format(t='t')}, greatest(a.atttypmod, plain.modifier),"
            " (SELECT format('%I.%I', c.collnamespace::regnamespace::name, c.collname) FROM pg_collation c"
            " WHERE c.oid = a.attcollation)"
            f" FROM (SELECT {prediction_sets.key_numbers('s')} AS numbers FROM scorebeat.prediction_sets s"
            " WHERE s.id = :set) k JOIN pg_attribute a ON a.attrelid = CAST(:table AS regclass)"
            " AND a.attnum = ANY (k.numbers) JOIN plain ON plain.oid = a.atttypid JOIN pg_type t ON t.oid = plain.base"
            " ORDER BY array_position(k.numbers, a.attnum)"
        ),
        {"table": found.table, "set": found.id},
    )
    return [_Stored(*row) for row in rows]


def _narrow_columns(source: Source, found: PredictionSet, stored: list[_Stored]) -> list[tuple[KeyColumn, _Stored]]:
    """The columns that are too narrow, with their stored ones. Raises SignatureError if the key is another."""
    comparable = [k.name for k in source.keys] == [s.name for s in stored] and all(
        k.type == s.type or _is_wider(k.type, s.type) or _is_wider(s.type, k.type)
        for k, s in zip(source.keys, stored, strict=True)
    )
    if not comparable:
        now = ", ".join(map(_shown, source.keys))
        raise SignatureError(
            f"jobs.{found.job}.key is ({now}) now, but {found.table} has predictions under "
            f"({', '.join(map(_shown, stored))}). Give the job another name, or take the key back; "
            "nothing was changed."
        )
    return [(k, s) for k, s in zip(source.keys, stored, strict=True) if not _has_room(k, s)]


def _is_wider(one: str, other: str) -> bool:
    return one in _WIDER.get(other, ())


def _has_room(key: KeyColumn, stored: _Stored) -> bool:
    if key.type != stored.type:
        return _is_wider(stored.type, key.type)
    if not stored.size or key.size == stored.size:
        return True
    # digits before the point, and behind it
    return bool(key.size) and len(key.size) == 1 and key.size < stored.size


def _widening(source: Source, found: PredictionSet, stored: list[_Stored]) -> str:
    now, before = (", ".join(map(_shown, columns)) for columns in (source.keys, stored))
    return f"jobs.{found.job}.key is ({now}) now, wider than ({before}) of {found.table}"


def _shown(column: KeyColumn | _Stored) -> str:
    return f"{column.name} {column.type}" + (f"({','.join(map(str, column.size))})" if column.size else "")


def _alter(key: KeyColumn, stored: _Stored) -> str:
    """Without a modifier if that changes no value: then a later change of the modifier needs none here."""
    kind = f"character({key.size[0]})" if key.type == "bpchar" and key.size else key.type
    collation = f" COLLATE {stored.collation}" if stored.collation else ""
    return f"ALTER COLUMN {ident(key.name)} TYPE {kind}{collation}"
