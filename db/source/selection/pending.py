"""Pending rows: those of the query that are neither in the prediction set nor quarantined.

With a `changed_at` column also those that have a newer value there than their prediction, or than in quarantine.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from scorebeat.core.table_names import CHANGED_AT
from scorebeat.db.connect.sql import (
    Key,
    KeyRange,
    after,
    among,
    columns,
    ident,
    row,
    same_key,
    subquery,
    texts,
    value,
    whole,
    within,
)
from scorebeat.db.source.changes import SEEN, ChangeColumn, Stored
from scorebeat.db.source.source import Source

NUMBER = "scorebeat_row"
"""The column of a snapshot with the number of the row, 1, 2, ... in key order."""
SAME_TEXT = frozenset({"smallint", "integer", "bigint", "uuid"})
"""Types of keys whose value has the same text in Python as in PostgreSQL, under all settings of a session."""
_ANY_COLLATION = ' COLLATE pg_catalog."C"'


@dataclass(frozen=True)
class PendingRows:
    """Statements for the pending rows of one prediction set; every method returns SQL."""

    source: Source
    table: str
    set_id: int
    where: str | None = None
    has_quarantine: bool = True
    row_keys: tuple[Key, ...] | None = None
    again: tuple[int, ...] = ()
    """Runs whose quarantined rows are pending nevertheless: the next run tries them."""
    since: str | None = None
    """SQL condition for the rows that a plan compares, of `Cursor.since`; None: all."""
    batch_id: int | None = None
    """The batch whose rows are wanted: a row that changes after the batch scored it is pending for the next run."""

    def key_stream(self, *, anti_join: bool) -> str:
        """Pending keys as texts, in key order; no anti-join if the set is known to be empty."""
        return self._in_key_order(texts(self.source.keys, "q"), anti_join=anti_join)

    def keys_to_skip(self) -> str:
        """`key_stream` of a set that is known to be empty, with integers and uuids as they are.

        Most of its keys are skipped, and PostgreSQL would make a text of each of these, too: half of a plan's time.
        """
        keys = self.source.keys
        selected = [columns([k], "q") if k.type in SAME_TEXT else texts([k], "q") for k in keys]
        return self._in_key_order(", ".join(selected), anti_join=False)

    def _in_key_order(self, selected: str, *, anti_join: bool) -> str:
        rows = self._rows(self._chosen(), anti_join=anti_join)
        return f"SELECT {selected} FROM {rows} ORDER BY {columns(self.source.keys, 'q')}"

    def to_store(self, names: Sequence[str], limit: int | None, *, anti_join: bool) -> str:
        """The pending rows for a snapshot: their numbers in key order, keys, and the columns `names`."""
        order = columns(self.source.keys, "q")
        rows = self._rows(self._chosen(), anti_join=anti_join)
        # columns whose collation is not known cannot be stored, and no input is compared
        texts = self.source.texts - self.source.json
        inputs = (f"q.{ident(name)}{_ANY_COLLATION if name in texts else ''}" for name in names)
        selected = ", ".join([order, *inputs])
        first = f" ORDER BY {order} LIMIT {limit}" if limit is not None else ""
        return f"SELECT row_number() OVER (ORDER BY {order}) AS {NUMBER}, {selected} FROM {rows}{first}"

    def last_key(self, first: Key, *, anti_join: bool) -> str:
        """The last pending key, at or after `first`."""
        keys = self.source.keys
        conditions = [*self._chosen(), f"{row(keys, 'q')} >= {value(keys, first)}"]
        descending = ", ".join(f"{columns([k], 'q')} DESC" for k in keys)
        rows = self._rows(conditions, anti_join=anti_join)
        return f"SELECT {texts(keys, 'q')} FROM {rows} ORDER BY {descending} LIMIT 1"

    def count_beyond(self, since: str) -> str:
        """How many pending rows do not meet the condition `since`."""
        return f"SELECT count(*) FROM {self._rows([*self._chosen(), f'NOT {since}'], anti_join=True)}"

    def count_changed(self, changes: ChangeColumn) -> str:
        """How many pending rows have a prediction, or are in quarantine."""
        seen = self._stored(changes).seen(quarantine=self.has_quarantine)
        return f"SELECT count({seen}) FROM {self._rows(self._chosen(), anti_join=True)}"

    def count_odd(self, changes: ChangeColumn, *, is_joined: bool) -> str:
        """How many rows of the query have no value in the column, and how many an older one than their prediction."""
        stored = self._stored(changes)
        back = f"count(*) FILTER (WHERE {changes.value()} < s.{CHANGED_AT})" if is_joined else "0"
        joined = stored.predictions(self.table, "") if is_joined else ""
        without = f"count(*) FILTER (WHERE ({changes.value()}) IS NULL)"
        return f"SELECT {without}, {back} FROM {subquery(self.source.query)}{joined}"

    def batch(
        self,
        names: Sequence[str],
        span: KeyRange,
        limit: int,
        *,
        anti_join: bool,
        listed: Sequence[Key] | None = None,
        beyond: Key | None = None,
    ) -> str:
        """Up to `limit` pending rows of a batch, in key order, as `db.batch_io.columns.fetch` reads them.

        The key columns by `sql.whole`; if the source has `changes`, `CHANGED_AT` and `SEEN`; then the columns `names`
        by `Source.expressions`.
        """
        keys, changes = self.source.keys, self.source.changes
        conditions = [*self._chosen(with_keys=listed is None), self._in_batch(span, listed)]
        if beyond is not None:
            conditions.append(after(keys, "q", beyond))
        # the range is on both sides: otherwise each batch would hash the whole prediction table
        rows = self._rows(conditions, span, listed, anti_join=anti_join)
        selected = whole(keys, "q")
        if changes is not None:
            seen = self._stored(changes).seen(quarantine=self.has_quarantine) if anti_join else "NULL::text"
            selected += [f"{changes.value()} AS {CHANGED_AT}", f"{seen} AS {SEEN}"]
        selected += [part for n in names for part in self.source.expressions(n)]
        return f"SELECT {', '.join(selected)} FROM {rows} ORDER BY {self._order(span)} LIMIT {limit}"

    def keys(self, span: KeyRange, limit: int, *, listed: Sequence[Key] | None = None) -> str:
        """The next pending keys of a batch as texts; no other column of the query is computed."""
        return self._keys(texts(self.source.keys, "q"), span, limit, listed)

    def rows(self, span: KeyRange, limit: int, *, listed: Sequence[Key] | None = None) -> str:
        """`keys`, and then for each row what `quarantine.RowId` has, both NULL for a source without `changes`."""
        changes = self.source.changes
        selected = [texts(self.source.keys, "q"), "NULL::text", "NULL::text"]
        if changes is not None:
            seen = self._stored(changes).seen(quarantine=self.has_quarantine)
            selected = [selected[0], f"{changes.number(changes.value())}::text", seen]
        return self._keys(", ".join(selected), span, limit, listed)

    def _keys(self, selected: str, span: KeyRange, limit: int, listed: Sequence[Key] | None) -> str:
        conditions = [*self._chosen(with_keys=listed is None), self._in_batch(span, listed)]
        rows = self._rows(conditions, span, listed, anti_join=True)
        return f"SELECT {selected} FROM {rows} ORDER BY {self._order(span)} LIMIT {limit}"

    def as_it_is(self, names: Sequence[str], span: KeyRange, limit: int) -> str:
        """The columns `names` of the first rows, in key order, without our casts."""
        keys = self.source.keys
        rows = self._from([*self._chosen(), self._within_batch("q", span, None)])
        selected = ", ".join(f"q.{ident(name)}" for name in names)
        return f"SELECT {selected} FROM {rows} ORDER BY {columns(keys, 'q')} LIMIT {limit}"

    def _rows(
        self,
        conditions: Sequence[str],
        span: KeyRange | None = None,
        listed: Sequence[Key] | None = None,
        *,
        anti_join: bool,
    ) -> str:
        """The query's rows with these conditions; those that are pending if they are to be looked up."""
        if not anti_join:
            return self._from(conditions)
        if self.source.changes is None:
            return self._from([*conditions, *self._unscored(span, listed)])
        stored = self._stored(self.source.changes)
        joins = stored.predictions(self.table, f" WHERE {self._within_batch('p', span, listed)}" if span else "")
        conditions = [*conditions, stored.unscored()]
        if self.has_quarantine:
            joins += stored.quarantined(self.set_id)
            or_again = ""
            if self.again:
                batch = "(SELECT b.run_id FROM scorebeat.batches b WHERE b.id = a.scorebeat_quarantined_batch)"
                or_again = f" OR {batch} IN ({self._runs_again})"
            conditions.append(stored.not_quarantined(or_again))
        return f"{subquery(self.source.query)}{joins} WHERE {' AND '.join(conditions)}"

    def _stored(self, changes: ChangeColumn) -> Stored:
        return Stored(changes, self.source.keys, self.batch_id)

    def _from(self, conditions: Sequence[str]) -> str:
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return subquery(self.source.query) + where

    def _chosen(self, *, with_keys: bool = True) -> list[str]:
        chosen = [f"(\n{self.where}\n)"] if self.where else []
        chosen += [self.since] if self.since else []
        if with_keys and self.row_keys is not None:
            chosen.append(among(self.source.keys, "q", self.row_keys))
        return chosen

    def _in_batch(self, span: KeyRange, listed: Sequence[Key] | None) -> str:
        """SQL condition for a row of the query; a row of a snapshot is found by its number."""
        if span.numbers is None:
            return self._within_batch("q", span, listed)
        first, last = span.numbers
        conditions = [f"q.{NUMBER} BETWEEN {first:d} AND {last:d}"]
        conditions += [among(self.source.keys, "q", listed)] if listed is not None else []
        return " AND ".join(conditions)

    def _order(self, span: KeyRange) -> str:
        """The order of the keys, which is also that of the numbers."""
        return columns(self.source.keys, "q") if span.numbers is None else f"q.{NUMBER}"

    def _within_batch(self, alias: str, span: KeyRange, listed: Sequence[Key] | None) -> str:
        """SQL condition: the row is in the batch, by its list of keys, or else by its range."""
        keys = self.source.keys
        return within(keys, alias, span) if listed is None else among(keys, alias, listed)

    def _unscored(self, span: KeyRange | None, listed: Sequence[Key] | None) -> list[str]:
        keys = self.source.keys
        within_batch = f" AND {self._within_batch('p', span, listed)}" if span else ""
        scored = f"NOT EXISTS (SELECT 1 FROM {self.table} AS p WHERE {same_key(keys, 'p', 'q')}{within_batch})"
        if not self.has_quarantine:
            return [scored]
        but_again = ""
        if self.again:
            batch = "(SELECT b.run_id FROM scorebeat.batches b WHERE b.id = z.batch_id)"
            but_again = f" AND {batch} NOT IN ({self._runs_again})"
        not_quarantined = (
            f"NOT EXISTS (SELECT 1 FROM scorebeat.quarantine AS z WHERE z.prediction_set_id = {self.set_id}"
            f" AND z.key = jsonb_build_array({texts(keys, 'q')}){but_again})"
        )
        return [scored, not_quarantined]

    @property
    def _runs_again(self) -> str:
        return ", ".join(str(int(run)) for run in self.again)


def is_empty(connection: Connection, table: str) -> bool:
    """Whether the prediction set's table has no row."""
    return bool(connection.exec_driver_sql(f"SELECT NOT EXISTS (SELECT 1 FROM {table})").scalar_one())


def has_quarantine(connection: Connection, set_id: int) -> bool:
    return bool(
        connection.execute(
            text("SELECT EXISTS (SELECT 1 FROM scorebeat.quarantine WHERE prediction_set_id = :id)"),
            {"id": set_id},
        ).scalar_one()
    )
