"""A job's query is one SELECT that can be cut by its key, or it is refused with one clear message."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, Engine

from scorebeat.core.errors import QueryError
from scorebeat.core.jobs.job import Job
from scorebeat.db.source import source
from scorebeat.db.source.selection import key_range, planning_cursor
from scorebeat.db.source.source import Source
from tests.support.ledger_fixtures import FILL, ITEMS, Ledger, ledger, shared_engine, trained
from tests.support.ledger_rows import a_job

pytestmark = pytest.mark.wide(quick=10)

__all__ = ["ledger", "shared_engine", "trained"]


@pytest.fixture(scope="module")
def url(shared_engine: Engine) -> str:
    """A database with the tables `items` (20,000 rows) and `odd`."""
    with shared_engine.begin() as connection:
        connection.exec_driver_sql(ITEMS)
        connection.exec_driver_sql(FILL.format(first=1, last=20_000))
        connection.exec_driver_sql("CREATE TABLE plain (id bigint, grp int, a float8)")
        connection.exec_driver_sql("INSERT INTO plain SELECT id, id % 50, a FROM items")
        connection.exec_driver_sql("CREATE TYPE mood AS ENUM ('good', 'bad')")
        connection.exec_driver_sql(
            'CREATE TABLE odd (id bigint PRIMARY KEY, "o""dd; --" float8, place point, span tsrange, raw bytea, m mood)'
        )
        connection.exec_driver_sql("ANALYZE items, plain, odd")
    return shared_engine.url.render_as_string(hide_password=False)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    with planning_cursor.reading(engine) as connection:
        yield connection


def describe(engine: Engine, url: str, query: str, key: str | tuple[str, ...] = "id") -> Source:
    with reading(engine) as connection:
        return source.describe(connection, url, a_job(query=query, key=key))


def require_range(engine: Engine, url: str, job: Job) -> None:
    with reading(engine) as connection:
        found = source.describe(connection, url, job)
        first = planning_cursor.first_key(connection, found)
        assert first is not None
        whole = key_range.why_whole(connection, found, job, first)
        if whole is not None:
            raise QueryError(whole)


REFUSED = {
    "two statements": ("SELECT id FROM items; SELECT 1", "holds several statements; expected one SELECT"),
    "a second that drops": ("SELECT id FROM items; DROP TABLE items", "holds several statements"),
    "closes the bracket": ("SELECT id FROM items) AS q; DROP TABLE items; --", "several statements|not one SELECT"),
    "an INSERT": ("INSERT INTO items VALUES (-1, 1, 1)", "is not one SELECT .*syntax error"),
    "a DELETE that returns": ("DELETE FROM items RETURNING id", "is not one SELECT .*syntax error"),
    "an UPDATE that returns": ("UPDATE items SET a = 1 RETURNING id", "is not one SELECT"),
    "a CTE that writes": (
        "WITH d AS (DELETE FROM items RETURNING id) SELECT id FROM d",
        "is not one SELECT.*data-modify",
    ),
    "SELECT INTO": ("SELECT id INTO copied FROM items", "SELECT ... INTO|INTO"),
    "CREATE TABLE AS": ("CREATE TABLE copied AS SELECT 1 AS id", "is not one SELECT"),
    "a semicolon before a comment": ("SELECT id FROM items; -- all", 'syntax error at or near ";"'),
    "no statement": ("-- nothing", "is not one SELECT"),
    "EXPLAIN": ("EXPLAIN SELECT 1 AS id", "is not one SELECT"),
    "a syntax error": (
        "SELEC id FROM items",
        'is not one SELECT that PostgreSQL can run: syntax error at or near "SELEC"',
    ),
    "no such table": ("SELECT id FROM itemz", 'fails in PostgreSQL: relation "itemz" does not exist'),
    "no such column": ("SELECT idd FROM items", 'fails in PostgreSQL: column "idd" does not exist'),
    "parameters": ("SELECT id FROM items WHERE a > $1", r"parameter|\$1"),
    "no key column": ("SELECT a, b FROM items", "has no column 'id', which `key` names; it returns a, b"),
    "a column twice": ("SELECT id, a, b AS a FROM items", "returns column 'a' twice; name its columns apart with AS"),
    "the key twice": ("SELECT id, id FROM items", "returns column 'id' twice"),
    "a column without name": ("SELECT id, 1, 2 FROM items", r"'\?column\?' twice"),
    "an unreadable type": ("SELECT id, place FROM odd", "column 'place' is point; readable are .*Cast it in the query"),
    "two unreadable types": ("SELECT id, span, raw FROM odd", "'span' is tsrange.*'raw' is bytea"),
    "an unreadable key": ("SELECT a AS id FROM items", "key: column 'id' is double precision; a key may be int2"),
    "a point as key": (
        "SELECT place AS id FROM odd",
        r"key: column 'id' is point; a key may be .* enum. Write \(x::text\) AS \"id\" .* CREATE UNIQUE INDEX",
    ),
}


@pytest.mark.parametrize("which", REFUSED)
def test_a_query_that_cannot_be_used_is_refused_with_its_reason(shared_engine: Engine, url: str, which: str) -> None:
    query, message = REFUSED[which]

    with pytest.raises(QueryError) as refused:
        describe(shared_engine, url, query)

    error = str(refused.value)
    assert re.search(message, error, re.DOTALL), error
    assert error.startswith("jobs.flowers_job.")
    assert "\n" not in error
    with shared_engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM items").scalar_one() == 20_000


ACCEPTED = {
    "a comment at its end": "SELECT id, a FROM items -- all of them",
    "a block comment": "/* all */ SELECT id, a FROM items /* of them */",
    "a semicolon at its end": "SELECT id, a FROM items;  \n",
    "several semicolons": "SELECT id, a FROM items ; ;",
    "a percent sign": "SELECT id, a FROM items WHERE id % 2 = 0 AND 'x%sy' LIKE '%s%%'",
    "colons": "SELECT id, a::float8 AS a FROM items WHERE ':name' <> ':x'",
    "a WITH": "WITH few AS (SELECT id, a FROM items) SELECT * FROM few",
    "VALUES": "SELECT * FROM (VALUES (1, 1.0::float8)) AS v (id, a)",
    "a semicolon in a text": "SELECT id, a FROM items WHERE 'a;b' <> ''",
    "an order of its own": "SELECT id, a FROM items ORDER BY a DESC",
    "a CTE that only reads, twice": "WITH x AS (SELECT 1), y AS (SELECT id, a FROM items) SELECT y.* FROM x, y",
}


@pytest.mark.parametrize("which", ACCEPTED)
def test_a_query_may_be_any_select(shared_engine: Engine, url: str, which: str) -> None:
    found = describe(shared_engine, url, ACCEPTED[which])

    assert found.columns.names == ["a"]
    with reading(shared_engine) as connection:
        assert planning_cursor.first_key(connection, found) is not None


def test_names_with_quotes_and_semicolons_are_only_names(shared_engine: Engine, url: str) -> None:
    found = describe(
        shared_engine, url, 'SELECT id AS "i""; DROP TABLE items", "o""dd; --" FROM odd', 'i"; DROP TABLE items'
    )

    assert found.columns.names == ['o"dd; --']
    with reading(shared_engine) as connection:
        assert planning_cursor.first_key(connection, found) is None


WHOLE = {
    "GROUP BY another column": "SELECT min(id) AS id, avg(a) AS a, grp AS b FROM plain GROUP BY grp, id % 4000",
    "DISTINCT": "SELECT DISTINCT id + 0 AS id, a FROM items",
    "a window": "SELECT id, a, sum(b) OVER (ORDER BY a) AS b FROM items",
    "a computed key": "SELECT id + 1 AS id, a, b FROM items",
    "a table without index": "SELECT id, a FROM plain",
    "a LIMIT": "SELECT id, a, b FROM items ORDER BY a LIMIT 15000",
}


@pytest.mark.parametrize("which", WHOLE)
def test_a_query_that_would_be_computed_for_every_batch_is_refused(shared_engine: Engine, url: str, which: str) -> None:
    job = a_job(query=WHOLE[which])

    with pytest.raises(QueryError, match=r"cannot be cut by its key: .* allow_full_scans = true"):
        require_range(shared_engine, url, job)

    require_range(shared_engine, url, job.model_copy(update={"allow_full_scans": True}))
    require_range(shared_engine, url, job.model_copy(update={"batch_rows": 1_000_000}))  # one batch


CUT = {
    "a table": "SELECT id, a, b FROM items",
    "a filter": "SELECT id, a, b FROM items WHERE a > 5",
    "GROUP BY the key": "SELECT id, avg(a) AS a, max(b) AS b FROM items GROUP BY id",
    "a join by the key": "SELECT i.id, i.a, j.b FROM items i JOIN items j USING (id)",
    "a window by the key": "SELECT id, a, sum(b) OVER (PARTITION BY id) AS b FROM items",
    "a subquery in a column": "SELECT id, a, (SELECT max(b) FROM items j WHERE j.id = i.id) AS b FROM items i",
}


@pytest.mark.parametrize("which", CUT)
def test_a_query_whose_plan_uses_the_key_range_is_allowed(shared_engine: Engine, url: str, which: str) -> None:
    require_range(shared_engine, url, a_job(query=CUT[which]))


def test_a_small_query_is_allowed_whatever_its_plan(ledger: Ledger) -> None:
    ledger.sql(FILL.format(first=1, last=25))

    never_analysed = ledger.scored(a_job())
    ledger.sql("ANALYZE items")
    ledger.sql(FILL.format(first=26, last=40))
    analysed = ledger.scored(a_job())

    assert len(ledger.batch_ids(never_analysed)) == 3
    assert len(ledger.batch_ids(analysed)) == 2


def test_a_new_table_that_was_never_analysed_is_cut_by_its_key(ledger: Ledger) -> None:
    ledger.sql("CREATE TABLE two (day date, id bigint, a float8, b float8, PRIMARY KEY (day, id))")
    ledger.sql("INSERT INTO two SELECT date '2024-01-01' + n % 9, n, 1, 1 FROM generate_series(1, 20000) AS n")

    run_id = ledger.planned(a_job(query="SELECT * FROM two", key=("day", "id"), batch_rows=5000))

    assert (ledger.run(run_id).reason, len(ledger.batch_ids(run_id))) == (None, 4)


@pytest.mark.parametrize(
    ("query", "proved"),
    [
        ("SELECT id, a FROM items WHERE a > 1", True),
        ("SELECT id, a FROM plain", False),
        ("SELECT i.id, i.a FROM items i, generate_series(1, 2) AS s", False),
        ("SELECT id, a, generate_series(1, 2) AS s FROM items", False),
        ("SELECT id, a FROM items UNION ALL SELECT 1, 1", False),
        ("SELECT id + 0 AS id, a FROM items", False),
        ("SELECT id, a FROM items TABLESAMPLE BERNOULLI (50)", True),
    ],
)
def test_keys_are_read_for_repeats_unless_an_index_proves_them(
    shared_engine: Engine, url: str, query: str, proved: bool
) -> None:
    found = describe(shared_engine, url, query)

    with reading(shared_engine) as connection:
        assert source.is_unique(connection, found) is proved


def test_the_check_of_a_query_runs_nothing_of_it(shared_engine: Engine, url: str) -> None:
    with shared_engine.begin() as connection:
        connection.exec_driver_sql("CREATE SEQUENCE calls")

    describe(shared_engine, url, "SELECT nextval('calls') AS id, pg_sleep(60) IS NULL AS a")

    with shared_engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT is_called FROM calls").scalar_one() is False


@pytest.mark.parametrize("which", [*WHOLE, *CUT])
def test_the_statistics_change_no_verdict_on_a_query(ledger: Ledger, which: str) -> None:
    """Before the first ANALYZE PostgreSQL expects fewer groups than one batch holds, and afterwards all of them."""
    url = ledger.engine.url.render_as_string(hide_password=False)
    ledger.sql("CREATE TABLE plain (id bigint, grp int, a float8)")
    ledger.sql("ALTER TABLE items SET (autovacuum_enabled = off)")
    ledger.sql("ALTER TABLE plain SET (autovacuum_enabled = off)")
    ledger.sql(FILL.format(first=1, last=20_000))
    ledger.sql("INSERT INTO plain SELECT id, id % 50, a FROM items")
    job = a_job(query={**WHOLE, **CUT}[which], batch_rows=2_500)

    def verdict() -> bool:
        try:
            require_range(ledger.engine, url, job)
        except QueryError:
            return False
        return True

    before = verdict()
    ledger.sql("ANALYZE items, plain")

    assert [before, verdict()] == [which in CUT] * 2
