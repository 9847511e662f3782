"""A column of every documented PostgreSQL type comes as its Arrow type; any other is refused by name."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from adbc_driver_manager.dbapi import Connection as DataConnection
from sqlalchemy import Engine

from scorebeat.core.errors import InputError, QueryError
from scorebeat.db.batch_io import columns
from scorebeat.db.batch_io.columns import Fetched
from scorebeat.db.connect.engine import data_connection
from scorebeat.db.connect.sql import KeyRange
from scorebeat.db.source import source
from scorebeat.db.source.selection.pending import PendingRows
from scorebeat.db.source.source import Source
from scorebeat.db.source.values import types
from tests.support.ledger_fixtures import shared_engine
from tests.support.ledger_rows import a_job

pytestmark = pytest.mark.wide(slow=10, quick=40)

__all__ = ["shared_engine"]

SPAN = KeyRange(("1",), ("9999",))
FLOATS = pa.list_(pa.float64())
NOON = datetime(2024, 3, 31, 12, 0, 0, 123456)


@dataclass(frozen=True)
class TypeCase:
    """A column of this SQL type, values of it, and what they are in Arrow; NULL is always tried beside them."""

    sql: str
    arrow: pa.DataType
    literals: tuple[str, ...]
    values: tuple[Any, ...]


READ = {
    "int2": TypeCase("smallint", pa.int16(), ("-32768", "32767"), (-32768, 32767)),
    "int4": TypeCase("int", pa.int32(), ("-2147483648", "7"), (-2147483648, 7)),
    "int8": TypeCase("bigint", pa.int64(), ("-9223372036854775808", "7"), (-(2**63), 7)),
    "float4": TypeCase("real", pa.float32(), ("1.5", "-infinity"), (1.5, -math.inf)),
    "float8": TypeCase("float8", pa.float64(), ("0.1", "1e-300"), (0.1, 1e-300)),
    "numeric": TypeCase("numeric(20,6)", pa.float64(), ("0.1", "-123456789.000001"), (0.1, -123456789.000001)),
    "bool": TypeCase("boolean", pa.bool_(), ("true", "false"), (True, False)),
    "text": TypeCase("text", pa.string(), ("", "ä\\''\"\n%s😀"), ("", "ä\\'\"\n%s😀")),
    "varchar": TypeCase("varchar(9)", pa.string(), ("ab ", "😀"), ("ab ", "😀")),
    "bpchar": TypeCase("char(4)", pa.string(), ("ab", "abcd"), ("ab  ", "abcd")),
    "name": TypeCase("name", pa.string(), ("ab",), ("ab",)),
    "date": TypeCase("date", pa.date32(), ("2024-02-29", "1969-12-31"), (date(2024, 2, 29), date(1969, 12, 31))),
    "timestamp": TypeCase("timestamp", pa.timestamp("us"), ("2024-03-31 12:00:00.123456",), (NOON,)),
    "timestamptz": TypeCase(
        "timestamptz", pa.timestamp("us", tz="UTC"), ("2024-03-31 14:00:00.123456+02",), (NOON.replace(tzinfo=UTC),)
    ),
    "uuid": TypeCase(
        "uuid", pa.string(), ("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",), ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",)
    ),
    "_int2": TypeCase("smallint[]", pa.list_(pa.int16()), ("{1,NULL,-3}", "{}"), ([1, None, -3], [])),
    "_int4": TypeCase("int[]", pa.list_(pa.int32()), ("{1,NULL}", "{}"), ([1, None], [])),
    "_int8": TypeCase("bigint[]", pa.list_(pa.int64()), ("{9223372036854775807}", "{}"), ([2**63 - 1], [])),
    "_float4": TypeCase("real[]", pa.list_(pa.float32()), ("{1.5,NULL}", "{}"), ([1.5, None], [])),
    "_float8": TypeCase("float8[]", FLOATS, ("{0.1,NULL,1e300}", "{}"), ([0.1, None, 1e300], [])),
    "_numeric": TypeCase("numeric[]", FLOATS, ("{0.1,NULL,3}", "{}"), ([0.1, None, 3.0], [])),
    "_text": TypeCase("text[]", pa.list_(pa.string()), ('{a,NULL,""}', "{}"), (["a", None, ""], [])),
    "_varchar": TypeCase("varchar(3)[]", pa.list_(pa.string()), ("{a,NULL}", "{}"), (["a", None], [])),
    "json": TypeCase("json", FLOATS, ("[1, 2.5,\n 1e3]", "[ ]", "null"), ([1.0, 2.5, 1000.0], [], None)),
    "jsonb": TypeCase(
        "jsonb",
        FLOATS,
        ("[5.1, 3, -1.5E-3, 1e21]", "[]", "[1, null, 2]", "null", "[0.1, 123456789012345678]"),
        ([5.1, 3.0, -0.0015, 1e21], [], [1.0, None, 2.0], None, [0.1, 123456789012345678.0]),
    ),
    "enum": TypeCase("colour", pa.string(), ("red", "dark blue"), ("red", "dark blue")),
}
UNREAD = [
    "point",
    "bytea",
    "interval",
    "time",
    "inet",
    "tsrange",
    "money",
    "xml",
    "bit(3)",
    "tsvector",
    "oid",
    "record[]",
]


@pytest.fixture(scope="module")
def engine(shared_engine: Engine) -> Engine:
    with shared_engine.begin() as connection:
        connection.exec_driver_sql("CREATE TYPE colour AS ENUM ('red', 'dark blue')")
    return shared_engine


@pytest.fixture
def data(engine: Engine) -> Iterator[DataConnection]:
    with data_connection(engine.url.render_as_string(hide_password=False)) as opened:
        yield opened


def described(engine: Engine, query: str) -> Source:
    with engine.connect() as connection:
        return source.describe(connection, engine.url.render_as_string(hide_password=False), a_job(query=query))


def fetched_by(data: DataConnection, read: Source | None) -> Fetched:
    assert read is not None
    statement = PendingRows(read, "nowhere", 0).batch(read.columns.names, SPAN, 100, anti_join=False)
    assert columns.begin_query(data)
    result = columns.fetch(data, statement, read, 100, 10**9)
    assert result.rows.schema == read.columns
    return result


def fetched(engine: Engine, data: DataConnection, query: str, *, bounded: bool = False) -> Fetched:
    found = described(engine, query)
    return fetched_by(data, found.bounded(["x"], 100, columns.AT_ONCE) if bounded else found)


def rows_of(case: TypeCase) -> str:
    quoted = ["'" + literal.replace("'", "''").replace("''''", "''") + "'" for literal in case.literals]
    values = ", ".join(f"({n}, CAST({v} AS {case.sql}))" for n, v in enumerate([*quoted, "NULL"], 1))
    return f"SELECT * FROM (VALUES {values}) AS v (id, x)"


@pytest.mark.parametrize("name", READ)
def test_a_column_of_every_documented_type_comes_as_its_arrow_type(
    engine: Engine, data: DataConnection, name: str
) -> None:
    case = READ[name]

    rows = fetched(engine, data, rows_of(case)).rows

    assert rows.schema.field("x").type == case.arrow
    assert rows.column("x").to_pylist() == [*case.values, None]


@pytest.mark.parametrize("name", READ)
def test_no_rows_of_a_type_have_its_arrow_type_too(engine: Engine, data: DataConnection, name: str) -> None:
    rows = fetched(engine, data, f"{rows_of(READ[name])} WHERE id < 0").rows

    assert (rows.num_rows, rows.schema.field("x").type) == (0, READ[name].arrow)


NO_BOUND = {name for name in READ if name.startswith("_")}
BOUNDED = [name for name in READ if name not in NO_BOUND]
LONGEST = {
    "name": "repeat('\u00e4', 31)::name",
    "varchar(9999)": "repeat('😀', {})",
    "char(500)": "repeat('😀', 500)",
    "text": "repeat('😀', {})",
    "varchar": "repeat('😀', {})",
    "jsonb": "('[' || repeat('1,', {} / 3 - 20) || '1]')",
}
"""Types, and texts that are nearly as long as a value of theirs is read."""


@pytest.mark.parametrize("name", BOUNDED)
def test_a_column_comes_as_it_is_when_it_is_read_up_to_a_length(
    engine: Engine, data: DataConnection, name: str
) -> None:
    by_copy = fetched(engine, data, rows_of(READ[name]))

    at_once = fetched(engine, data, rows_of(READ[name]), bounded=True)

    assert (at_once.keys, at_once.rows) == (by_copy.keys, by_copy.rows)
    assert at_once.rows.column("x").to_pylist() == [*READ[name].values, None]
    assert fetched(engine, data, f"{rows_of(READ[name])} WHERE id < 0", bounded=True).rows.num_rows == 0


@pytest.mark.parametrize("name", sorted(NO_BOUND))
def test_a_column_whose_values_have_no_bound_is_read_by_copy(engine: Engine, name: str) -> None:
    assert described(engine, rows_of(READ[name])).bounded(["x"], 1, 10**9) is None


@pytest.mark.slow(quick=3)
@pytest.mark.parametrize("sql", LONGEST)
def test_rows_take_no_more_bytes_than_they_were_bounded_to(engine: Engine, data: DataConnection, sql: str) -> None:
    bound, rows = 1_000_000, 100
    read = described(engine, f"SELECT 1 AS id, NULL::{sql} AS x").bounded(["x"], rows, bound)
    assert read is not None
    value = LONGEST[sql].format((read.cut_at or 1) - 1)

    query = f"SELECT id, CAST({value} AS {sql}) AS x FROM generate_series(1, {rows}) AS id"
    result = fetched_by(data, described(engine, query).bounded(["x"], rows, bound))

    assert result.rows.num_rows == rows
    assert result.rows.nbytes + result.keys.nbytes + rows * 2 * 24 <= bound  # 24 bytes a value are libpq's own


@pytest.mark.quick
@pytest.mark.parametrize("query", ["SELECT 1 AS id, {} AS x", "SELECT {} AS id, 1 AS x"], ids=["an input", "a key"])
def test_a_text_that_may_have_been_cut_is_never_taken_for_whole(
    engine: Engine, data: DataConnection, query: str
) -> None:
    read = described(engine, query.format("'5'::text")).bounded(["x"], 100, columns.AT_ONCE)
    assert read is not None
    assert read.cut_at

    with pytest.raises(columns.LongText):
        fetched_by(
            data, described(engine, query.format(f"repeat('5', {read.cut_at})")).bounded(["x"], 100, columns.AT_ONCE)
        )


def test_every_type_that_is_documented_is_tried_here() -> None:
    assert set(READ) - {"enum"} == set(types._READ)


@pytest.mark.parametrize("sql", UNREAD)
def test_a_column_of_any_other_type_is_refused_by_name(engine: Engine, data: DataConnection, sql: str) -> None:
    with pytest.raises(QueryError, match=r"column 'x' is .*; readable are integers"):
        fetched(engine, data, f"SELECT 1 AS id, NULL::{sql} AS x")


NOT_NUMBERS = ['{"a": 1}', '["a"]', "[[1]]", "3", '"text"', "true", "[true]", '[{"v": 1}]', '[1, "2"]']


@pytest.mark.parametrize("kind", types.JSON)
@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_json_that_is_not_an_array_of_numbers_is_refused(
    engine: Engine, data: DataConnection, kind: str, value: str
) -> None:
    good = f"SELECT 1 AS id, '[1]'::{kind} AS x UNION ALL SELECT 2, '[]' UNION ALL SELECT 3, NULL"

    with pytest.raises(InputError, match="column 'x' holds JSON that is not an array of numbers"):
        fetched(engine, data, f"{good} UNION ALL SELECT 4, '{value}'")
