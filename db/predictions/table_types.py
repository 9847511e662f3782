"""A prediction table as it is now: its columns' types, and whether it still stores exactly what is inserted."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from scorebeat.core.errors import OutputError
from scorebeat.db.connect.sql import literal
from scorebeat.db.predictions.prediction_sets import PredictionSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adbc_driver_manager.dbapi import Connection as DataConnection


@dataclass(frozen=True)
class TableTypes:
    """The columns of a prediction table, and all else that decides what an insert stores."""

    schema: pa.Schema
    """Without `scored_at`, which takes its default."""
    stamp: str
    """All of it as one text from PostgreSQL's catalogue."""
    rewrites: tuple[str, ...] = ()
    """Triggers and rules that an insert runs, such as `the trigger keep`."""
    primary_key: tuple[str, ...] = ()
    """Columns of the primary key, or of the index that becomes it; empty if there is none."""
    awaits_key: bool = False
    """A generation that was opened without its primary key, which may be built by now."""
    changed_at: str | None = None
    """The column of the query whose values the table stores; it changes only together with the table."""

    @property
    def lacks_key(self) -> bool:
        """Nothing of the run was looked up yet: `generation_keys`."""
        return self.awaits_key and not self.primary_key


def table_types(connection: "DataConnection", target: PredictionSet) -> TableTypes:
    """Read them once; each fence compares the stamp."""
    with connection.cursor() as cursor:
        of_set = f"FROM scorebeat.prediction_sets WHERE id = {target.id:d}"
        cursor.execute(
            f"SELECT {stamp_sql(target)}, {_named(target, _REWRITES)}, {_named(target, _KEY)},"
            f" (SELECT unbuilt_key IS NOT NULL {of_set}), (SELECT changed_at {of_set})"
        )
        ((found, rewrites, key, awaits_key, changed_at),) = cursor.fetchall()
        schema = cursor.adbc_execute_schema(f"SELECT * FROM {target.table}")
    connection.commit()
    columns = pa.schema([f for f in schema if f.name != "scored_at"])
    return TableTypes(columns, found, tuple(rewrites), tuple(key), awaits_key, changed_at)


def require_as_made(types: TableTypes, target: PredictionSet, keys: "Sequence[str]") -> None:
    """Raises OutputError if inserted rows might not be stored, be stored with other values, or be stored twice."""
    wrong, todo = [], []
    if types.rewrites:
        wrong.append(f"it has {' and '.join(types.rewrites)}, which may change or leave out what is inserted")
        todo.append("drop what is there and put it on a table of your own that you fill from the view of the job")
    if set(types.primary_key) != set(keys) and not types.lacks_key:
        wanted = ", ".join(keys)
        wrong.append(f"its primary key is not ({wanted}), without which a row could be stored twice")
        todo.append(f"restore it, ALTER TABLE {target.table} ADD PRIMARY KEY ({wanted})")
    if wrong:
        raise OutputError(
            f"{target.table} is not as it was made: {'; '.join(wrong)}. Nothing was written. Let the table's owner "
            f"{', and '.join(todo)}; then `scorebeat requeue` scores the rows."
        )


def stamp_sql(target: PredictionSet) -> str:
    """SQL: a text that changes with all that `table_types` reads."""
    column = "attnum || ' ' || attname || ' ' || atttypid || ' ' || atttypmod"
    return (
        f"(SELECT pg_catalog.string_agg({column}, ',' ORDER BY attnum) FROM pg_catalog.pg_attribute"
        f" WHERE attrelid = {_oid(target)} AND attnum > 0 AND NOT attisdropped)"
        f" || {_named(target, _REWRITES)}::text || {_named(target, _KEY)}::text"
    )


_REWRITES = (
    "SELECT 'the trigger ' || tgname FROM pg_catalog.pg_trigger WHERE tgrelid = {0} AND NOT tgisinternal"
    " AND tgenabled <> 'D' AND tgtype & 7 = 7"  # before INSERT and for each row: others change no row
    " UNION ALL SELECT 'the rule ' || rulename FROM pg_catalog.pg_rewrite WHERE ev_class = {0}"
    " AND ev_enabled <> 'D' AND ev_type = '3'"
)
_KEY = (
    "SELECT attname::text FROM pg_catalog.pg_index JOIN pg_catalog.pg_attribute"
    " ON attrelid = indrelid AND attnum = ANY (indkey) WHERE indrelid = {0} AND indisvalid AND indimmediate"
    " AND (indisprimary OR indisunique AND indexrelid ="
    " pg_catalog.to_regclass('predictions.scorebeat_key_{1:d}'))"
)


def _named(target: PredictionSet, select: str) -> str:
    return f"ARRAY(SELECT n FROM ({select.format(_oid(target), target.id)}) AS found (n) ORDER BY n)"


def _oid(target: PredictionSet) -> str:
    return f"{literal(target.table)}::pg_catalog.regclass"
