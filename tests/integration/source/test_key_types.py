"""Keys of every type, in every collation: each pending row is in one batch, and is scored once."""

from dataclasses import dataclass
from typing import Any

import pytest

from scorebeat.core.jobs.job import Job
from scorebeat.db.connect.sql import KeyRange
from scorebeat.db.ledger.runs import Selection
from scorebeat.db.source import source
from scorebeat.db.source.selection.pending import PendingRows
from scorebeat.producer.control.plan import plan
from tests.support.ledger_fixtures import Ledger, ledger, trained
from tests.support.ledger_rows import a_job

pytestmark = pytest.mark.wide(slow=10, quick=20)

__all__ = ["ledger", "trained"]

NASTY = "(ARRAY['', ' ', 'a', 'A', 'ä', 'Ä', 'z', 'ß', 'o''q', '\"', '\\', '\\n', E'x\ny', '%s', ':x', '😀', '日本'])"
WORD = f"{NASTY}[1 + n % 17] || CASE WHEN n < 17 THEN '' ELSE (n / 17)::text END"
TIMESTAMP = "timestamptz '2024-03-31 00:59:59+00' + n * interval '1000.000001 s'"
ENDS = "CASE n WHEN 1 THEN '-infinity'::{type} WHEN 2 THEN 'infinity'::{type} ELSE {rest} END"


@dataclass(frozen=True)
class KeyCase:
    """The key's columns as CREATE TABLE has them, and their values for row n."""

    columns: dict[str, str]
    values: str
    before: str = "SELECT 1"


CASES = {
    "bigint": KeyCase({"k": "bigint"}, "(n - 70) * 90000000001"),
    "int": KeyCase({"k": "int"}, "(n - 70) * 1001"),
    "smallint": KeyCase({"k": "smallint"}, "n - 70"),
    "uuid": KeyCase({"k": "uuid"}, "md5(n::text)::uuid"),
    "text": KeyCase({"k": "text"}, WORD),
    "text C": KeyCase({"k": 'text COLLATE "C"'}, WORD),
    "text en": KeyCase({"k": 'text COLLATE "en-x-icu"'}, WORD),
    "text und": KeyCase({"k": 'text COLLATE "und-x-icu"'}, WORD),
    "text nondeterministic": KeyCase(
        {"k": "text COLLATE loose"},
        "chr(97 + n % 26) || n",
        "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    ),
    "varchar": KeyCase({"k": "varchar(20)"}, WORD),
    "domain": KeyCase({"k": "word"}, WORD, "CREATE DOMAIN word AS text"),
    "date": KeyCase({"k": "date"}, "date '0001-01-01 BC' + n * 5003"),
    "timestamp": KeyCase({"k": "timestamp"}, f"({TIMESTAMP})::timestamp"),
    "timestamptz": KeyCase({"k": "timestamptz"}, TIMESTAMP),
    "infinite date": KeyCase({"k": "date"}, ENDS.format(type="date", rest="date '2024-01-01' + n")),
    "int, text": KeyCase({"k": "int", 'odd "name"': "text"}, f"n % 5, {WORD}"),
    "text, uuid": KeyCase({"k": "text", "u": "uuid"}, f"left({WORD}, 1), md5(n::text)::uuid"),
    "date, bool, bigint": KeyCase({"d": "date", "k": "bool", "n": "bigint"}, "date '2024-01-01' + n % 5, n % 2 = 0, n"),
}


FEW = ["bigint", "uuid", "text", "timestamptz", "int, text", "text, uuid"]
ICU = "SELECT 1 FROM pg_collation WHERE collname = 'und-x-icu'"


@dataclass(frozen=True)
class Typed:
    """A table `typed` whose key is of the case's type."""

    ledger: Ledger
    case: KeyCase

    @property
    def keys(self) -> str:
        return ", ".join('"' + name.replace('"', '""') + '"' for name in self.case.columns)

    @property
    def texts(self) -> str:
        """The key columns as texts: Python has no dates before Christ."""
        return ", ".join(f"q.{name}::text" for name in self.keys.split(", "))

    @property
    def order(self) -> str:
        return ", ".join(f"q.{name}" for name in self.keys.split(", "))

    @property
    def job(self) -> Job:
        return a_job(query=f"SELECT {self.keys}, a, b FROM typed -- all", key=tuple(self.case.columns), batch_rows=20)

    def create(self) -> None:
        columns = zip(self.keys.split(", "), self.case.columns.values(), strict=True)
        keys = ", ".join(f"{name} {kind}" for name, kind in columns)
        if "icu" in f"{self.case}" and not self.ledger.sql(ICU):
            pytest.skip("this server was built without ICU")
        self.ledger.sql(self.case.before)
        self.ledger.sql(f"CREATE TABLE typed ({keys}, a float8, b float8, PRIMARY KEY ({self.keys}))")

    def fill(self, last: int, where: str = "true") -> None:
        self.ledger.sql(
            f"INSERT INTO typed SELECT {self.case.values}, 4 + n % 40 / 10.0, 2 + n % 7 / 3.0"
            f" FROM generate_series(0, {last}) AS n WHERE {where}"
        )
        self.ledger.sql("ANALYZE typed")

    def planned_keys(self, run_id: int) -> list[list[Any]]:
        """The pending keys of each batch, as a worker would fetch them."""
        ledger, run = self.ledger, self.ledger.run(run_id)
        with ledger.engine.connect() as connection:
            found = source.describe(connection, ledger.producer.url, run.job)
        rows = PendingRows(found, ledger.target(run_id).table, run.prediction_set_id)
        fetched = []
        for batch in map(ledger.batch, ledger.batch_ids(run_id)):
            span = KeyRange(tuple(batch["first_key"]), tuple(batch["last_key"]))
            fetched.append(ledger.sql(rows.keys(span, 1000, listed=batch["keys"])))
            assert len(fetched[-1]) == batch["rows_planned"]
        return fetched

    def all_keys(self) -> list[Any]:
        return self.ledger.sql(f"SELECT {self.texts} FROM typed AS q ORDER BY {self.order}")

    def is_listed(self, run_id: int) -> list[bool]:
        return [self.ledger.batch(b)["keys"] is not None for b in self.ledger.batch_ids(run_id)]

    def check(self, run_id: int) -> int:
        return self.ledger.check_exact("TABLE typed", self.ledger.target(run_id).table, self.keys)


@pytest.fixture(params=CASES)
def typed(request: pytest.FixtureRequest, ledger: Ledger) -> Typed:
    made = Typed(ledger, CASES[request.param])
    made.create()
    return made


def test_every_pending_row_is_in_exactly_one_batch_and_is_scored_as_by_a_plain_loop(typed: Typed) -> None:
    typed.fill(149, "n % 12 <> 0")

    run_id = typed.ledger.planned(typed.job)

    assert typed.ledger.run(run_id).reason is None
    parts = typed.planned_keys(run_id)
    assert [len(part) for part in parts] == [20] * 6 + [17]
    assert [key for part in parts for key in part] == typed.all_keys()
    assert not any(typed.is_listed(run_id))
    typed.ledger.score(run_id)
    assert typed.check(run_id) == 137


def test_a_few_rows_among_many_scored_ones_are_listed_and_a_dense_rest_is_not(typed: Typed) -> None:
    typed.fill(149, "n % 12 <> 0")
    typed.ledger.scored(typed.job)
    typed.fill(149, "n % 12 = 0")

    sparse = typed.ledger.scored(typed.job)
    typed.fill(300, "n > 149")
    dense = typed.ledger.planned(typed.job)

    assert typed.is_listed(sparse) == [True]
    assert set(typed.is_listed(dense)) == {False}
    assert sum(map(len, typed.planned_keys(dense))) == 151
    typed.ledger.score(dense)
    assert typed.check(dense) == 301


@pytest.mark.slow(quick=4)
@pytest.mark.parametrize("typed", FEW, indirect=True)
def test_rows_inserted_into_a_range_while_the_run_is_on_are_scored_once(typed: Typed) -> None:
    typed.fill(149, "n % 4 <> 0")
    run_id = typed.ledger.planned(typed.job)
    first, *others = typed.ledger.batch_ids(run_id)
    typed.fill(149, "n % 4 = 0")

    typed.ledger.score(run_id)
    typed.ledger.score(run_id)  # every message a second time
    next_run = typed.ledger.scored(typed.job)

    assert first not in others
    assert typed.ledger.run(run_id).state == "succeeded"
    assert typed.check(next_run) == 150


@pytest.mark.parametrize("typed", FEW, indirect=True)
def test_hand_picked_keys_are_scored_and_nothing_else(typed: Typed) -> None:
    typed.fill(60)
    wanted = typed.all_keys()[5:45:2]
    picked = tuple((key,) if isinstance(key, str) else key for key in wanted)

    run_id = typed.ledger.enqueue(typed.job, selection=Selection(keys=picked))
    plan(typed.ledger.producer, run_id)
    typed.ledger.score(run_id)

    table = typed.ledger.target(run_id).table
    assert typed.ledger.sql(f"SELECT {typed.texts} FROM {table} AS q ORDER BY {typed.order}") == wanted
    assert typed.ledger.run(run_id).state == "succeeded"


def test_a_snapshot_has_keys_of_every_type_and_later_rows_are_the_next_runs(typed: Typed) -> None:
    job = typed.job.model_copy(update={"snapshot": True})
    typed.fill(149, "n % 12 <> 0")

    first = typed.ledger.scored(job)
    typed.fill(149, "n % 12 = 0")
    second = typed.ledger.scored(job)

    assert [typed.ledger.run(run).snapshot_rows for run in (first, second)] == [137, 13]
    assert typed.check(second) == 150
