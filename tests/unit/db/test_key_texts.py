"""A fetched key becomes the very text that PostgreSQL writes, so that a row quarantined is found again."""

import pytest
from sqlalchemy import Engine

from scorebeat.db.connect.engine import data_connection
from scorebeat.db.connect.sql import KeyColumn, literal, texts
from scorebeat.db.ledger.failures import quarantine
from scorebeat.db.source.values.types import KEYS

pytestmark = pytest.mark.wide(quick=5)

VALUES = {
    "int2": ["0", "-32768", "32767"],
    "int4": ["0", "-2147483648", "2147483647"],
    "int8": ["0", "-9223372036854775808", "9223372036854775807"],
    "uuid": ["'00000000-0000-0000-0000-000000000000'", "md5('a')::uuid"],
    "bool": ["true", "false"],
    "text": [
        "''", "' '", "'a''b'", "'\"'", "'\\'", "E'x\\ny'", "E'\\t\\r'", "'%s :x {y}'", "'Zoë 日本 😀'", "'NULL'",
        "repeat('x', 10000)",
    ],
    "varchar": ["'a''b'", "''", "' padded '"],
    "date": [
        "'2026-03-29'", "'1970-01-01'", "'0001-01-01'", "'0987-06-05'", "'1600-02-29'", "'9999-12-31'", "'10000-01-01'",
        "'5874897-12-31'", "'0001-12-31 BC'", "'0044-03-15 BC'", "'4713-01-01 BC'", "'infinity'", "'-infinity'",
    ],
    "timestamp": [
        "'2026-03-29 01:59:59.999999'", "'2026-03-29 02:00:00'", "'2026-03-29 02:00:00.5'",
        "'2026-03-29 02:00:00.000001'",
        "'0001-01-01 00:00:00'", "'0987-06-05 04:03:02.10'", "'1969-12-31 23:59:59.9'", "'9999-12-31 23:59:59.999999'",
        "'12026-01-01'", "'294276-12-31 23:59:59'", "'0044-03-15 12:00:00.25 BC'", "'4713-01-01 BC'", "'infinity'",
        "'-infinity'",
    ],
    "timestamptz": [
        "'2026-03-29 01:59:59.999999+00'", "'2026-03-29 02:00:00+02'", "'2026-10-25 02:30:00.1234+01'",
        "'0987-06-05 04:03:02+00'", "'1969-12-31 23:59:59.9+00'", "'0044-03-15 12:00:00+00 BC'",
        "'infinity'", "'-infinity'",
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", [kind for kind in KEYS if kind in VALUES])  # the others: tests/contract/test_keys_*
def test_a_key_of_each_type_is_written_as_postgresql_writes_it(engine: Engine, kind: str) -> None:
    values = ", ".join(f"(CAST({value} AS {kind}))" for value in VALUES[kind])
    rows = f"SELECT k FROM (VALUES {values}) AS v(k)"
    with engine.connect() as connection:
        wanted = [tuple(row) for row in connection.exec_driver_sql(f"SELECT k::text FROM ({rows}) AS q")]

    assert fetched(engine, rows) == wanted


SETTINGS = ("TimeZone = 'Asia/Kathmandu'", "DateStyle = 'SQL, DMY'", "DateStyle = 'German'", "bytea_output = escape",
            "extra_float_digits = 0", "standard_conforming_strings = off")  # fmt: skip
SENT = {
    "numeric": ["1", "1.50", "'NaN'", "'-Infinity'", "1e-40"],
    "bpchar": ["'ab '", "''"],
    "bytea": [r"'\x00ff5c'"],
    "inet": ["'10.0.0.1'", "'10.0.0.0/8'", "'::1'"],
    "cidr": ["'10.0.0.0/8'"],
    "macaddr": ["'08:00:2b:01:02:03'"],
    "macaddr8": ["'08:00:2b:01:02:03:04:05'"],
}
"""Values of types whose keys are read as their text beside what PostgreSQL sends."""


@pytest.mark.slow(quick=4)
@pytest.mark.parametrize("kind", [*VALUES, *SENT])
def test_no_setting_changes_the_text_of_a_key_or_what_it_is_read_as(engine: Engine, kind: str) -> None:
    values = ", ".join(f"(CAST({value} AS {kind}))" for value in (VALUES | SENT)[kind])
    with engine.connect() as connection:
        (name,) = connection.exec_driver_sql(f"SELECT format_type('{kind}'::regtype, -1)").one()
        connection.exec_driver_sql(f"CREATE TEMP TABLE there AS SELECT k FROM (VALUES {values}) AS v(k)")
        shown = "abbrev(k)" if kind == "inet" else "k::text"
        wanted = list(connection.exec_driver_sql(f"SELECT {shown} FROM there").scalars())
        for setting in SETTINGS:
            connection.exec_driver_sql(f"SET LOCAL {setting}")

        found = list(connection.exec_driver_sql(f"SELECT {texts((KeyColumn('k', name),), 'v')} FROM there v").scalars())
        keys = ", ".join(f"{literal(text)}::{name}" for text in found)
        same = connection.exec_driver_sql(f"SELECT count(*) FROM there WHERE k IN ({keys})").scalar_one()

    assert found == wanted
    assert same == len(wanted)


def test_a_key_of_several_columns_keeps_their_order(engine: Engine) -> None:
    rows = "SELECT 'b' AS b, 1::int2 AS a, date '2026-01-02' AS d"

    assert fetched(engine, rows) == [("b", "1", "2026-01-02")]


def fetched(engine: Engine, rows: str) -> list[tuple[str, ...]]:
    """The keys of these rows as a worker reads them."""
    with data_connection(engine.url.render_as_string(hide_password=False)) as data, data.cursor() as cursor:
        cursor.execute(rows)
        (columns,) = cursor.fetch_arrow_table().combine_chunks().to_batches()
    return [quarantine.keys_of(columns, i) for i in range(columns.num_rows)]
