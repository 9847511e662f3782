"""A key of every documented type: planned, listed, quarantined, requeued, looked up and shown as PostgreSQL has it."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from scorebeat.core.states import RunState
from scorebeat.db.ledger.runs import Selection
from scorebeat.db.reports import results
from scorebeat.db.reports.lookup import KeyState, Lookup
from scorebeat.db.reports.pages.data_pages import Form, Page, everything, predicted, unpredicted
from scorebeat.db.source.values import types
from scorebeat.producer.requests import requeue
from scorebeat.producer.requests.preview import preview
from tests.contract.typed_rows import TypedRows, rows

pytestmark = pytest.mark.wide(slow=12)

__all__ = ["rows"]

CAREFUL = """
    class Careful:
        inputs = {"x": "float64"}
        outputs = {"y": "float64"}
        def __init__(self, files, device):
            pass
        def predict(self, rows):
            values = rows.column(0).to_pylist()
            if 3.0 in values:
                raise ValueError("no threes")
            return {"y": [2 * x for x in values]}
"""


@dataclass(frozen=True)
class KeyCase:
    """A key column of this type: values that differ in pairs, the third of which is the row that fails."""

    sql: str
    values: tuple[str, ...]
    another: str | None = None
    """The same key as the third, written otherwise."""


MACS = ("08:00:2b:01:02:03", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff")
TIMESTAMPS = ("infinity", "-infinity", "2024-03-31 01:59:59.999999", "294276-12-31 23:59:59.999999", "4714-11-24 BC")
KEYS = {
    "int2": KeyCase("smallint", ("-32768", "0", "32767")),
    "int4": KeyCase("int", ("-2147483648", "0", "2147483647"), "+2147483647"),
    "int8": KeyCase("bigint", ("-9223372036854775808", "9007199254740993", "9223372036854775807")),
    "bool": KeyCase("boolean", ("true", "false")),
    "uuid": KeyCase(
        "uuid",
        tuple(f"{n:08x}-9c0b-4ef8-bb6d-6bb9bd380a11" for n in (0, 2**32 - 1, 171, 7)),
        "{000000AB-9C0B-4EF8-BB6D-6BB9BD380A11}",
    ),
    "text": KeyCase("text", ("", " ", "a'\\b", "A", "ä", "x" * 2000)),
    "varchar": KeyCase("varchar(9)", ("", "a ", "a", "A")),
    "bpchar": KeyCase("char(4)", ("US", "", "abcd", "a"), "abcd  "),
    "citext": KeyCase("citext", ("a", "B", "Straße", ""), "STRAßE"),
    "enum": KeyCase("colour", ("red", "dark blue")),
    "bytea": KeyCase("bytea", ("\\x", "\\x00ff", "\\x5c27", "\\xdeadbeef"), "\\x5C27"),
    "numeric": KeyCase("numeric", ("-1e30", "0.10", "1.50", "NaN", "Infinity", "9" * 40, f"0.{'1' * 50}"), "1.5"),
    "numeric(20,0)": KeyCase("numeric(20,0)", ("-99999999999999999999", "0", "99999999999999999999", "NaN")),
    "numeric(9,2)": KeyCase("numeric(9,2)", ("1", "1.25", "-7.5", "9999999.99"), "-7.500"),
    "date": KeyCase("date", ("infinity", "-infinity", "5874897-12-31", "4714-11-24 BC", "2024-02-29")),
    "timestamp": KeyCase("timestamp", TIMESTAMPS),
    "timestamptz": KeyCase("timestamptz", TIMESTAMPS, "2024-03-31 03:59:59.999999+02"),
    "inet": KeyCase("inet", ("255.255.255.255", "1.2.3.4", "10.1.2.3/8", "::1", "fe80::1/64"), "10.1.2.3/8"),
    "cidr": KeyCase("cidr", ("0.0.0.0/0", "10.0.0.0/8", "192.168.0.0/16", "::/0", "1.2.3.4/32"), "192.168/16"),
    "macaddr": KeyCase("macaddr", MACS, "FFFF.FFFF.FFFF"),
    "macaddr8": KeyCase("macaddr8", tuple(f"{mac}:04:05" for mac in MACS)),
}
SETTINGS = ("bytea_output = 'escape'", "intervalstyle = 'iso_8601'", "extra_float_digits = 0")


def quoted(literal: str) -> str:
    return "'" + literal.replace("'", "''") + "'"


def table_of(case: KeyCase, name: str) -> str:
    values = ", ".join(f"({quoted(v)}::{case.sql}, {n}::float8)" for n, v in enumerate(case.values, 1))
    return f"CREATE TABLE {name} (id {case.sql} PRIMARY KEY, x float8); INSERT INTO {name} VALUES {values}"


def is_the_same(rows: TypedRows, name: str, where: str = "true") -> list[tuple[bool, ...]]:
    """Of each source row: whether its prediction is the model's, and whether its key is the same to the last letter."""
    return rows.sql(
        f"SELECT p.y = 2 * t.x, p.id::text IS NOT DISTINCT FROM t.id::text FROM {name} t LEFT JOIN predictions.{name} p"
        f" ON p.id = t.id WHERE {where}"
    )


@pytest.fixture(scope="module")
def careful(rows: TypedRows) -> str:
    rows.add("careful", CAREFUL, "Careful")
    database = rows.sql("SELECT current_database()")[0]
    for setting in SETTINGS:
        rows.sql(f"ALTER DATABASE {database} SET {setting}")
    rows.producer.engine.dispose()
    return "careful"


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_of_every_documented_type_goes_all_the_way(rows: TypedRows, careful: str, kind: str) -> None:
    case, name = KEYS[kind], "key_" + "".join(c for c in kind if c.isalnum())
    count = len(case.values)
    rows.sql(table_of(case, name))
    job = rows.job(name, careful, batch_rows=2)

    run = rows.scored(job)

    assert run.state is (RunState.PARTIAL if count > 2 else RunState.SUCCEEDED), run.reason
    assert is_the_same(rows, name, "x <> 3") == [(True, True)] * (count - (count > 2))
    if count > 2:
        find_requeue_and_score(rows, name, case, run.id)
    listed(rows, careful, name, case)


def find_requeue_and_score(rows: TypedRows, name: str, case: KeyCase, run_id: int) -> None:
    (key,) = rows.quarantined(rows.job(name, "careful", batch_rows=2))
    lookup = Lookup(rows.producer.engine)
    assert rows.sql(f"SELECT x FROM {name} WHERE id = {quoted(key)}::{case.sql}") == [3.0]
    for written in filter(None, (key, case.values[2], case.another)):
        assert lookup.find(name, (written,)).state is KeyState.QUARANTINED, written
    assert lookup.find(name, (case.values[1],)).state is KeyState.PREDICTED
    assert len(all_pages(rows, name, predicted)) == len(case.values) - 1
    assert len(all_pages(rows, name, everything)) == len(case.values)
    assert all_pages(rows, name, unpredicted) == []

    rows.sql(f"UPDATE {name} SET x = 33 WHERE x = 3")
    requeue.requeue(rows.producer, run_id, "test")
    rows.score(run_id)

    assert rows.run(run_id).state is RunState.SUCCEEDED
    assert is_the_same(rows, name) == [(True, True)] * len(case.values)
    assert lookup.find(name, (case.another or key,)).state is KeyState.PREDICTED


def all_pages(rows: TypedRows, name: str, pages: Callable[..., Page]) -> list[tuple[object, ...]]:
    """Of a list in pages of two rows, each after the last key of the one before."""
    found: list[tuple[object, ...]] = []
    with rows.producer.engine.connect() as connection:
        shape, after = results.shape(connection, name), None
        while True:
            page = pages(connection, shape, after, 2, Form.JSON)
            found += page.rows
            after = page.next
            if after is None:
                return found


def listed(rows: TypedRows, careful: str, name: str, case: KeyCase) -> None:
    """The same rows by hand, as `--keys` lists them, for another job."""
    job = rows.job(f"{name}_listed", careful, query=f"SELECT * FROM {name} WHERE x <> 3")
    run = rows.scored(job, selection=Selection(keys=tuple((value,) for value in case.values[:2])))
    assert run.state is RunState.SUCCEEDED, run.reason
    assert rows.sql(f"SELECT count(*) FROM {name} JOIN predictions.{name}_listed USING (id) WHERE y = 2 * x") == [2]


def test_every_documented_type_of_a_key_is_tried_here() -> None:
    assert {kind.partition("(")[0] for kind in KEYS} == {*types.KEYS, "enum"}


def test_keys_of_several_new_types_go_together(rows: TypedRows, careful: str) -> None:
    rows.sql("CREATE TABLE several (a numeric, b citext, c inet, d timestamp, x float8, PRIMARY KEY (a, b, c, d))")
    rows.sql(
        "INSERT INTO several SELECT n % 3 / 2.0, chr(97 + n % 5), '10.0.0.0'::inet + n % 7,"
        " CASE n WHEN 5 THEN 'infinity' ELSE date '2024-01-01' + n END, 10 + n FROM generate_series(0, 99) n"
    )
    job = rows.job("several", careful, key=["a", "b", "c", "d"], batch_rows=10)

    assert rows.scored(job).state is RunState.SUCCEEDED
    assert rows.sql("SELECT count(*) FROM several JOIN predictions.several USING (a, b, c, d) WHERE y = 2 * x") == [100]


def test_the_advice_for_a_key_of_another_type_works(rows: TypedRows, careful: str) -> None:
    rows.sql("CREATE TABLE ranked AS SELECT n::oid AS id, 10.0 + n AS x FROM generate_series(1, 30000) n")
    rows.sql("ALTER TABLE ranked ALTER x TYPE float8, ADD PRIMARY KEY (id)")
    rows.sql("ANALYZE ranked")
    job = rows.job("ranked", careful, query="SELECT (id::text) AS id, x FROM ranked", batch_rows=10_000)
    assert "CREATE UNIQUE INDEX ON" in str(preview(rows.producer, "ranked").whole_for_each_batch)

    rows.sql("CREATE UNIQUE INDEX ON ranked ((id::text))")
    rows.sql("ANALYZE ranked")

    assert preview(rows.producer, "ranked").whole_for_each_batch is None
    assert rows.scored(job).state is RunState.SUCCEEDED
    assert rows.sql("SELECT count(*) FROM ranked r JOIN predictions.ranked p ON p.id = r.id::text WHERE y = 2 * x") == [
        30000
    ]
