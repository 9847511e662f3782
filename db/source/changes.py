"""The column of a query by which a row is seen to have changed: `changed_at` of a job.

A prediction stores the column's value beside it, and the row is pending when it has a newer one. An infinite timestamp
counts as NULL, and NULL is older than every value: a value that nothing can be newer than would hide all later changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from scorebeat.core.table_names import CHANGED_AT
from scorebeat.db.connect.sql import KeyColumn, ident, texts

SEEN = "scorebeat_seen"
"""Column of a fetch, beside `CHANGED_AT`: what the row replaces, as `ChangeColumn.seen`; NULL for a row that is new."""
TYPES = {"timestamptz": "timestamp with time zone", "timestamp": "timestamp without time zone", "int8": "bigint"}
"""By `pg_type.typname`."""


@dataclass(frozen=True)
class ChangeColumn:
    """The column: its name, its PostgreSQL type, and the names that the driver has for the type."""

    name: str
    type: str
    read_as: frozenset[str] = frozenset()

    def value(self, alias: str = "q") -> str:
        """SQL: the value of a row of the query, in the column's own type."""
        column = f"{alias}.{ident(self.name)}"
        return column if self.type == "bigint" else f"CASE WHEN isfinite({column}) THEN {column} END"

    def number(self, value: str) -> str:
        """SQL: the value as a number without a time zone or a loss, as the quarantine stores it."""
        return f"({value})::numeric" if self.type == "bigint" else f"(extract(epoch FROM {value}) * 1000000)"


@dataclass(frozen=True)
class Stored:
    """Joins that find what is stored of each row of a query `q`, and the conditions for a row that is pending."""

    column: ChangeColumn
    keys: Sequence[KeyColumn]
    batch_id: int | None = None
    """What this batch has stored is never pending in it again: it ends, however often its rows change."""

    def predictions(self, table: str, where: str) -> str:
        """The prediction of the row. Its columns have names of our own: a user's condition has names without `q`."""
        names = ", ".join(f"p.{ident(k.name)} AS {_key(i)}" for i, k in enumerate(self.keys))
        same = " AND ".join(f"q.{ident(k.name)} = s.{_key(i)}" for i, k in enumerate(self.keys))
        return (
            f" LEFT JOIN (SELECT {names}, p.{CHANGED_AT}, p.batch_id AS scorebeat_batch, p.ctid AS scorebeat_tid,"
            f" p.xmin AS scorebeat_xid FROM {table} AS p{where}) AS s ON {same}"
        )

    def quarantined(self, set_id: int) -> str:
        """The row in quarantine."""
        return (
            " LEFT JOIN (SELECT z.id AS scorebeat_quarantined, z.key AS scorebeat_quarantined_key, z.batch_id AS"
            " scorebeat_quarantined_batch, z.changed_at AS scorebeat_quarantined_changed FROM scorebeat.quarantine AS z"
            f" WHERE z.prediction_set_id = {set_id:d}) AS a"
            f" ON a.scorebeat_quarantined_key = jsonb_build_array({texts(self.keys, 'q')})"
        )

    def unscored(self) -> str:
        """SQL condition: the row has no prediction, or has a newer value than its prediction."""
        value, of_another = self.column.value(), self._of_another("s.scorebeat_batch")
        return f"(s.{_key(0)} IS NULL OR ({of_another}{newer(value, f's.{CHANGED_AT}')}))"

    def not_quarantined(self, but_again: str = "") -> str:
        """SQL condition: the row is not in quarantine, or has a newer value than the one that was quarantined."""
        value = self.column.number(self.column.value())
        of_another = self._of_another("a.scorebeat_quarantined_batch")
        changed = newer(value, "a.scorebeat_quarantined_changed")
        return f"(a.scorebeat_quarantined IS NULL OR ({of_another}{changed}){but_again})"

    def seen(self, *, quarantine: bool) -> str:
        """SQL: what is stored of the row now, as a JSON text that `replace_rows` reads; NULL if nothing is.

        It names the very version of the prediction's row, so that no other is ever deleted for it.
        """
        quarantined = "a.scorebeat_quarantined" if quarantine else "NULL::bigint"
        nothing = f"s.{_key(0)} IS NULL" + (f" AND {quarantined} IS NULL" if quarantine else "")
        return (
            f"CASE WHEN {nothing} THEN NULL ELSE"
            f" jsonb_build_array(s.scorebeat_tid::text, s.scorebeat_xid::text, {quarantined})::text END"
        )

    def _of_another(self, batch: str) -> str:
        return f"{batch} <> {self.batch_id:d} AND " if self.batch_id is not None else ""


def newer(value: str, stored: str) -> str:
    """SQL condition: the value is newer than the stored one. NULL is the oldest, and not newer than itself."""
    return f"({value} > {stored} OR ({stored} IS NULL AND ({value}) IS NOT NULL))"


def _key(index: int) -> str:
    return f"scorebeat_key_{index}"
