"""Every documented type, at its ends, as an input, an output and a key: PostgreSQL's own value, or refused by row."""

import datetime as dt
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

from scorebeat.core.errors import SignatureError
from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.db.ledger.runs import Run
from scorebeat.db.source.values import types
from scorebeat.models.arrow_types import _NAMED
from scorebeat.online.predictor import Predictor
from tests.contract.typed_rows import TypedRows, rows

pytestmark = pytest.mark.wide(slow=10, quick=60)

__all__ = ["rows"]

MICROSECONDS = "(extract(epoch FROM x) * 1000000)::bigint"
DAYS = "x - date '1970-01-01'"
LONG = "1234567890123456789012345678901234567890"


@dataclass(frozen=True)
class InputCase:
    """A column of this SQL type for an input: values that the model must get, and those that are refused by row.

    `oracle` is PostgreSQL's expression of the value that the model is to see, read by psycopg2.
    """

    sql: str
    input: str
    good: tuple[str, ...]
    bad: tuple[str, ...] = ()
    oracle: str = "x"


FLOAT_ENDS = ("1.7976931348623157e308", "5e-324", "NaN", "infinity", "-infinity")
NESTED = ("{{1,2},{3,4}}", "{{1},{2}}", "{{{1}}}")
STAMPS = ("0001-01-01", "4714-11-24 BC", "9999-12-31 23:59:59.999999", "294246-12-31", "1969-12-31 23:59:59.999999")
BEYOND = ("infinity", "-infinity", "294276-12-31 23:59:59.999999")
INPUTS = {
    "int2": InputCase("smallint", "int16", ("-32768", "32767")),
    "int4": InputCase("int", "int32", ("-2147483648", "2147483647")),
    "int8": InputCase("bigint", "int64", ("-9223372036854775808", "9223372036854775807", "9007199254740993")),
    "int8 for float64": InputCase(
        "bigint", "float64", ("9007199254740993", "-9223372036854775807"), oracle="x::float8"
    ),
    "int8 for float32": InputCase("bigint", "float32", ("9007199791611905", "16777217"), oracle="x::float4::float8"),
    "float4": InputCase("real", "float32", ("3.4028235e38", "1e-45", "NaN", "infinity"), oracle="x::float8"),
    "float8": InputCase("float8", "float64", FLOAT_ENDS),
    "float8 for float32": InputCase("float8", "float32", ("0.1", "infinity"), ("1e39", "-1e300"), "x::float4::float8"),
    "numeric": InputCase(
        "numeric", "float64", (LONG, f"0.{LONG}", "NaN", "Infinity", "1e308"), ("1e400", "-1e309"), "x::text::float8"
    ),
    "bool": InputCase("boolean", "bool", ("true", "false")),
    "text": InputCase("text", "string", ("", " ", "😀", "a\nb", "C:\\temp", "'")),
    "varchar": InputCase("varchar(9)", "string", ("", "ab ")),
    "bpchar": InputCase("char(4)", "string", ("US", "", "abcd")),
    "name": InputCase("name", "string", ("ab",)),
    "uuid": InputCase("uuid", "string", ("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",), oracle="x::text"),
    "enum": InputCase("colour", "string", ("red", "dark blue")),
    "date": InputCase(
        "date", "date32", ("0001-01-01", "4714-11-24 BC", "5874897-12-31"), ("infinity", "-infinity"), DAYS
    ),
    "timestamp": InputCase("timestamp", "timestamp[us]", STAMPS, BEYOND, MICROSECONDS),
    "timestamptz": InputCase("timestamptz", "timestamp[us, UTC]", STAMPS, BEYOND, MICROSECONDS),
    "_int2": InputCase("smallint[]", "list<float32>", ("{}", "{1,NULL}", "[0:1]={1,2}"), NESTED),
    "_int4": InputCase("int[]", "list<float64>", ("{}", "{2147483647}"), NESTED),
    "_int8": InputCase("bigint[]", "list<float64>", ("{}", "{9007199254740993}"), NESTED, "x::float8[]"),
    "_float4": InputCase("real[]", "list<float32>", ("{}", "{1.5,NULL,NaN}"), NESTED),
    "_float8": InputCase("float8[]", "list<float64>", ("{}", "{0.1,NULL,1e300}"), ("[5:6]={1,2}", *NESTED)),
    "_float8 for list<float32>": InputCase("float8[]", "list<float32>", ("{1.5}",), ("{1e300}", "{{1}}")),
    "_float8 for an array": InputCase(
        "float8[]", "float64[4]", ("{1,2,3,4}", "[0:3]={1,2,3,NULL}"), ("{}", "{1}", *NESTED)
    ),
    "_numeric": InputCase(
        "numeric[]", "list<float64>", ("{}", f"{{{LONG},NULL}}"), ("{1e400}", *NESTED), "x::float8[]"
    ),
    "json": InputCase(
        "json", "list<float64>", ("[]", "[1, 2.5]"), ("[[1,2],[3,4]]", "[1e400]", '["a"]', "5", '{"v": [1]}')
    ),
    "jsonb": InputCase("jsonb", "float64[4]", ("[1,2,3,4]",), ("[[1,2],[3,4]]", "[]", "[1,2,3,[4]]")),
}
WITHOUT_A_MODEL = {"_text", "_varchar"}
"""Readable, and no model's signature has an input for lists of texts."""


def words(name: str) -> str:
    """As part of a job's name."""
    array = "array " * name.startswith("_")
    return "_".join("".join(c if c.isalnum() else " " for c in array + name.lower()).split())


def quoted(literal: str) -> str:
    """Without a backslash that a setting could give a meaning."""
    return "'" + literal.replace("'", "''") + "'"


def fill(rows: TypedRows, table: str, sql: str, literals: tuple[str, ...]) -> None:
    """Rows 1, 2, ... of these values, and a last one that is NULL."""
    rows.sql(f"CREATE TABLE {table} (id int PRIMARY KEY, x {sql})")
    values = ", ".join(f"({n}, {quoted(v)}::{sql})" for n, v in enumerate(literals, 1))
    rows.sql(f"INSERT INTO {table} VALUES {values}, ({len(literals) + 1}, NULL)")


def in_the_inputs_type(value: Any, kind: str) -> Any:
    """PostgreSQL's value as Python has it in a column of this type."""
    if isinstance(value, list):
        return [in_the_inputs_type(each, kind) for each in value]
    if value is not None and "float" in kind:
        return float(np.float32(value)) if "float32" in kind else float(value)
    return value


@pytest.fixture(scope="module")
def scored(rows: TypedRows) -> Callable[[str], tuple[Job, Run]]:
    """Scores the rows of a case when the first test needs that; returns the job and its run."""

    @cache
    def once(name: str) -> tuple[Job, Run]:
        case, table = INPUTS[name], f"in_{words(name)}"
        fill(rows, table, case.sql, (*case.good, *case.bad))
        job = rows.job(table, rows.echo(case.input))
        return job, rows.scored(job)

    return once


@pytest.mark.wide(quick=4)
@pytest.mark.parametrize("name", INPUTS)
def test_a_model_gets_postgresqls_own_value_or_the_row_is_refused(
    rows: TypedRows, scored: Callable[[str], tuple[Job, Run]], name: str
) -> None:
    case = INPUTS[name]

    job, run = scored(name)

    assert rows.errors(run.id) == []
    null = len(case.good) + len(case.bad) + 1
    own = dict(rows.sql(f"SELECT id, {case.oracle} FROM {job.name} WHERE id <= {len(case.good)} OR id = {null}"))
    if "[" in case.input and case.input.endswith("4]"):
        del own[null]  # no array of four is NULL
    assert rows.seen(job) == {id_: repr(in_the_inputs_type(value, case.input)) for id_, value in own.items()}
    refused = {str(n) for n in range(len(case.good) + 1, null + (null not in own))}
    assert set(rows.quarantined(job)) == refused
    assert run.state is (RunState.PARTIAL if refused else RunState.SUCCEEDED)


def test_every_documented_type_of_a_column_and_of_an_input_is_tried_here() -> None:
    tried = {name.partition(" ")[0] for name in INPUTS} - {"enum"}
    assert tried | WITHOUT_A_MODEL == set(types._READ)
    assert {case.input.partition("[4]")[0] for case in INPUTS.values()} == set(_NAMED)


def as_number(x: Any) -> Any:
    """JSON has no such numbers; Python's callers do."""
    if isinstance(x, list):
        return [as_number(each) for each in x]
    return float(x) if x in ("NaN", "Infinity", "-Infinity") else x


@pytest.mark.parametrize("name", INPUTS)
def test_the_same_value_is_the_same_online(
    rows: TypedRows, scored: Callable[[str], tuple[Job, Run]], name: str
) -> None:
    """The row as JSON, as PostgreSQL and the API's pages write it."""
    case, table = INPUTS[name], scored(name)[0].name
    seen = dict(rows.sql(f"SELECT id, seen FROM predictions.{table}"))
    source_rows = rows.sql(f"SELECT id, row_to_json(q)::text FROM {table} AS q ORDER BY id")

    predictor, online, refused = Predictor(rows.producer), {}, set()
    for id_, line in source_rows:
        x = json.loads(line)["x"]
        try:
            (predicted,) = predictor.predict(
                rows.echo(case.input), [{"x": as_number(x) if "float" in case.input else x}]
            )
        except SignatureError:
            refused.add(id_)
        else:
            online[id_] = predicted["seen"]

    # a date that ISO 8601 cannot express is refused; a number that Python reads as infinity, and others of JSON
    # from an array that begins at 1, are not seen
    sayable = {id_: value for id_, value in seen.items() if id_ not in refused}
    assert {id_: value for id_, value in online.items() if id_ in seen} == sayable
    assert all(
        "BC" in source_rows[id_ - 1][1] or re.search(r"[0-9]{5,}-", source_rows[id_ - 1][1])
        for id_ in refused & set(seen)
    )
    assert all(re.search(r"inf|\[1.0, 2.0\]", value) for id_, value in online.items() if id_ not in seen)


def test_dates_out_of_range_are_null_if_the_job_sets_that(rows: TypedRows) -> None:
    rows.sql("CREATE TABLE ends (id int PRIMARY KEY, x timestamptz)")
    rows.sql(
        "INSERT INTO ends VALUES (1, 'infinity'), (2, '-infinity'), (3, '294276-12-31'), (4, '2024-01-01'), (5, NULL)"
    )
    job = rows.job("ends", rows.echo("timestamp[us, UTC]"), out_of_range="null")

    run = rows.scored(job)

    assert run.state is RunState.SUCCEEDED
    assert rows.seen(job) == {1: "None", 2: "None", 3: "None", 4: str(1704067200 * 10**6), 5: "None"}


def test_a_text_of_ten_megabytes_is_scored_with_its_neighbours(rows: TypedRows) -> None:
    rows.sql("CREATE TABLE long_texts AS SELECT n AS id, repeat('ä', n * 1048576) AS x FROM generate_series(0, 5) n")
    rows.sql("ALTER TABLE long_texts ADD PRIMARY KEY (id)")
    job = rows.job("long_texts", rows.echo("string"), batch_bytes=4 * 1024**2)

    assert rows.scored(job).state is RunState.SUCCEEDED
    assert rows.sql(
        "SELECT t.id FROM long_texts t JOIN predictions.long_texts p USING (id) WHERE p.seen = '''' || t.x || ''''"
        " ORDER BY 1"
    ) == [0, 1, 2, 3, 4, 5]


OUTPUT_VALUES = {
    "int16": ("smallint", "[-32768, 32767]"),
    "int32": ("integer", "[-2147483648, 2147483647]"),
    "int64": ("bigint", "[-9223372036854775808, 9007199254740993]"),
    "float32": ("real", "[1.5, float('inf')]"),
    "float64": ("double precision", "[0.1, float('nan')]"),
    "bool": ("boolean", "[True, False]"),
    "string": ("text", "['', '😀']"),
    "date32": ("date", "[datetime.date(1, 1, 1), datetime.date(9999, 12, 31)]"),
    "timestamp[us]": ("timestamp without time zone", "[datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31)]"),
    "timestamp[us, UTC]": (
        "timestamp with time zone",
        "[datetime.datetime(1, 1, 1, tzinfo=datetime.UTC), datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC)]",
    ),
    "list<float32>": ("real[]", "[[1.5, None], []]"),
    "list<float64>": ("double precision[]", "[[0.1, float('inf')], []]"),
}
RETURNS = """
    import datetime
    class Returns:
        inputs = {{"x": "float64"}}
        outputs = {{"y": "{kind}"}}
        def __init__(self, files, device):
            pass
        def predict(self, rows):
            return {{"y": [({values})[int(x)] for x in rows.column(0).to_pylist()]}}
"""


def test_every_documented_type_of_an_output_is_tried_here() -> None:
    assert set(OUTPUT_VALUES) == set(_NAMED)


@pytest.mark.parametrize("kind", OUTPUT_VALUES)
def test_an_output_is_stored_as_the_model_returned_it(rows: TypedRows, kind: str) -> None:
    sql, values = OUTPUT_VALUES[kind]
    name = f"out_{words(kind)}"
    rows.add(name, RETURNS.format(kind=kind, values=values), "Returns")
    rows.sql(f"CREATE TABLE {name} AS SELECT n AS id, n::float8 AS x FROM generate_series(0, 1) n")
    rows.sql(f"ALTER TABLE {name} ADD PRIMARY KEY (id)")

    run = rows.scored(rows.job(name, name, allow_nan=True))

    assert run.state is RunState.SUCCEEDED
    stored = rows.sql(f"SELECT pg_typeof(y)::text, y FROM predictions.{name} ORDER BY id")
    wanted = eval(values, {"datetime": dt})  # noqa: S307 -- the test's own text
    assert [kind for kind, _ in stored] == [sql, sql]
    assert repr([value for _, value in stored]) == repr(wanted)


def test_half_of_a_character_in_an_output_costs_its_row_alone(rows: TypedRows) -> None:
    rows.add("halves", RETURNS.format(kind="string", values="['a', 'c', chr(0xD800), 'b' + chr(0)]"), "Returns")
    rows.sql("CREATE TABLE halves AS SELECT n AS id, (n % 4)::float8 AS x FROM generate_series(0, 99) n")
    rows.sql("ALTER TABLE halves ADD PRIMARY KEY (id)")
    job = rows.job("halves", "halves")

    rows.scored(job)

    assert rows.sql("SELECT id, y FROM predictions.halves ORDER BY id") == [
        (n, "ac"[n % 4]) for n in range(100) if n % 4 < 2
    ]
    assert len(rows.quarantined(job)) == 50
