"""The cursor of a job: a column of its query whose values grow over the whole table.

A plan that begins at a value of it reads only what came since. Values are numbers here, as in the ledger: microseconds
since 1970, or the whole number itself.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, text

from scorebeat.db.connect.sql import ident

TYPES = {
    "timestamptz": "timestamp with time zone",
    "timestamp": "timestamp without time zone",
    "int8": "bigint",
    "int4": "integer",
    "int2": "smallint",
}
"""By `pg_type.typname`."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LEAST = -(2**63)
"""Of bigint."""
_FARTHEST_ZONE = timedelta(hours=12)
"""A local time is at most this much behind UTC."""


@dataclass(frozen=True)
class Cursor:
    """The column."""

    name: str
    type: str
    origin: tuple[int, int] | None = None
    """Oid of its table and its number there, if it is a column of a table as it is."""

    @property
    def is_time(self) -> bool:
        return self.type.startswith("timestamp")

    @property
    def column(self) -> str:
        """SQL: the column of a row `q` of the query."""
        return f"q.{ident(self.name)}"

    def since(self, value: int) -> str:
        """SQL condition: the row of `q` has this value, a larger one, or none that can be compared."""
        if not self.is_time:
            return self.from_value(f"({max(value, _LEAST):d})::pg_catalog.int8")
        kind = "timestamptz" if self.type == TYPES["timestamptz"] else "timestamp"
        return self.from_value(f"'{self.shown(value).isoformat()}'::pg_catalog.{kind}")

    def from_value(self, expression: str) -> str:
        """`since` for the value of an SQL expression."""
        condition = f"{self.column} >= {expression} OR {self.column} IS NULL"
        return f"({condition} OR {self.column} = '-infinity')" if self.is_time else f"({condition})"

    def shown(self, value: int) -> datetime:
        """The time of a value, with a zone if the column has one."""
        time = _EPOCH + value * _MICROSECOND
        return time if self.type == TYPES["timestamptz"] else time.replace(tzinfo=None)

    def in_words(self, value: int) -> str:
        return f"{self.shown(value):%Y-%m-%d %H:%M:%S%z}" if self.is_time else f"{value:,}"

    def value_of(self, time: datetime) -> int:
        """The value that no row written since `time` is below, by the clock of the database in whatever time zone."""
        value = (time - _EPOCH) // _MICROSECOND
        return value if self.type == TYPES["timestamptz"] else value - _FARTHEST_ZONE // _MICROSECOND

    def step_back(self, lookback: timedelta | int | None) -> int:
        """The `lookback` of the job as a difference of two values."""
        if lookback is None:
            return 0
        return lookback if isinstance(lookback, int) else lookback // _MICROSECOND


def index_command(connection: Connection, cursor: Cursor) -> str | None:
    """The statement that makes an index on the cursor, if it is a column of a table."""
    if cursor.origin is None:
        return None
    query = text(
        "SELECT format('CREATE INDEX ON %s (%I)', c.oid::regclass, a.attname) FROM pg_class c JOIN pg_attribute a"
        " ON a.attrelid = c.oid WHERE c.oid = :table AND a.attnum = :number AND c.relkind IN ('r', 'p', 'm')"
    )
    table, number = cursor.origin
    return connection.execute(query, {"table": table, "number": number}).scalar_one_or_none()


def share_without_value(connection: Connection, cursor: Cursor) -> float:
    """The share of the table's rows with NULL in the column, by PostgreSQL's statistics; 0 if it is not known."""
    if cursor.origin is None:
        return 0.0
    query = text(
        "SELECT s.null_frac FROM pg_stats s JOIN pg_class c ON c.relname = s.tablename"
        " AND c.relnamespace = to_regnamespace(quote_ident(s.schemaname)) JOIN pg_attribute a ON a.attrelid = c.oid"
        " AND a.attname = s.attname WHERE c.oid = :table AND a.attnum = :number AND NOT s.inherited"
    )
    table, number = cursor.origin
    found = connection.execute(query, {"table": table, "number": number}).scalar_one_or_none()
    return float(found or 0)


def why_out_of_order(connection: Connection, cursor: Cursor) -> str | None:
    """Why the sequence of a cursor of numbers draws some that are smaller than those before, and what to do."""
    if cursor.is_time or cursor.origin is None:
        return None
    query = text(
        "SELECT seqrelid::regclass::text AS name, seqcache AS cached, seqincrement < 0 AS falls, seqcycle AS cycles"
        " FROM pg_sequence WHERE (seqcache > 1 OR seqincrement < 0 OR seqcycle) AND seqrelid IN"
        " (SELECT d.objid FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')"
        " AND d.refclassid = 'pg_class'::regclass AND d.refobjid = :table AND d.refobjsubid = :number"
        " UNION ALL SELECT d.refobjid FROM pg_attrdef a JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass"
        " AND d.objid = a.oid AND d.refclassid = 'pg_class'::regclass WHERE a.adrelid = :table AND a.adnum = :number)"
        " LIMIT 1"
    )
    table, number = cursor.origin
    found = connection.execute(query, {"table": table, "number": number}).one_or_none()
    if found is None:
        return None
    if found.falls or found.cycles:
        how = "counts down" if found.falls else "begins again at its end (CYCLE)"
        return f"the sequence {found.name} {how}, so {cursor.name} does not grow: leave cursor out"
    return (
        f"the sequence {found.name} has CACHE {found.cached}, so a session uses numbers later than it draws them: "
        f"ALTER SEQUENCE {found.name} CACHE 1, or set lookback to at least {found.cached} for each session that writes"
    )
