"""The planning cursor: pending keys in key order, in a READ ONLY transaction; most of them are never fetched."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine

from scorebeat.db.connect import read_only, session, user_sql
from scorebeat.db.connect.sql import Key, KeyRange, columns, subquery, texts
from scorebeat.db.source.selection.pending import PendingRows
from scorebeat.db.source.source import Source, estimated_rows

DENSE = 8
"""A range is read as a whole if it has at most this many rows for each pending one."""


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One read-only snapshot for the whole plan."""
    with engine.connect() as plain:
        connection = plain.execution_options(**read_only.FOR_A_QUERY)
        with connection.begin() as transaction:
            # set in the transaction: the driver's options would stay in the session and override the database's own
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            # a plan may pause for longer than other transactions while batches are stored
            session.may_pause(connection, "10min")
            yield connection
            transaction.rollback()  # a query can set a session's settings, and a commit would keep them


class KeyCursor:
    """Cuts the stream of pending keys; PostgreSQL skips keys that are only counted."""

    def __init__(self, connection: Connection, pending: PendingRows, *, anti_join: bool) -> None:
        self._connection = connection
        self._pending = pending
        self._anti_join = anti_join
        # for its first rows PostgreSQL would walk all keys in their order, although few rows are new
        wanted = user_sql.FOR_FIRST_ROWS if pending.since is None else user_sql.FOR_ALL_ROWS
        stream = pending.key_stream(anti_join=True) if anti_join else pending.keys_to_skip()
        user_sql.open_cursor(connection, "pending", stream, wanted)

    def read(self, rows: int) -> list[Key]:
        """The next keys, at most `rows`."""
        found = self._connection.exec_driver_sql(f"FETCH FORWARD {rows} FROM pending")
        if self._anti_join:
            return [tuple(key) for key in found]
        return [tuple(key) if None in key else tuple(map(str, key)) for key in found]

    def skip(self, rows: int) -> tuple[KeyRange, int] | None:
        """The range of the next keys and how many they are, at most `rows`; None at the end."""
        first = self.read(1)
        if not first:
            return None
        if rows == 1:
            return KeyRange(first[0], first[0]), 1
        passed = self._connection.exec_driver_sql(f"MOVE FORWARD {rows - 2} IN pending").rowcount if rows > 2 else 0
        last = self.read(1) if passed == rows - 2 else []
        if last:
            return KeyRange(first[0], last[0]), rows
        if not passed:
            return KeyRange(first[0], first[0]), 1
        # the cursor is already past the last pending key, which is read in the same snapshot
        statement = self._pending.last_key(first[0], anti_join=self._anti_join)
        return KeyRange(first[0], user_sql.rows(self._connection, statement)[0]), 1 + passed


def is_sparse(connection: Connection, source: Source, span: KeyRange, pending: int) -> bool:
    """Whether so few of the range's rows are pending that a list of keys is read faster than the range.

    It is estimated by the planner's statistics: both ways read the same rows.
    """
    return estimated_rows(connection, source, span) > DENSE * pending


def whole_range(connection: Connection, pending: PendingRows) -> KeyRange | None:
    """From the lowest key of the query to the highest, pending or not; None if it gives no rows."""
    first = first_key(connection, pending.source)
    if first is None:
        return None
    (last,) = user_sql.rows(connection, pending.last_key(first, anti_join=False))
    return KeyRange(first, last)


def first_key(connection: Connection, source: Source) -> Key | None:
    """The lowest key of the query, pending or not."""
    found = user_sql.rows(
        connection,
        f"SELECT {texts(source.keys, 'q')} FROM {subquery(source.query)} ORDER BY {columns(source.keys, 'q')} LIMIT 1",
    )
    return found[0] if found else None
