"""Settings of the database, the role or the URL: the user's SQL has them, and no key or label is read otherwise."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from scorebeat.core.data_folder import StackUrls
from scorebeat.core.errors import QueryError, ScorebeatError, ServiceDown, UsageError
from scorebeat.core.jobs.job import Job
from scorebeat.core.settings import Settings
from scorebeat.db.connect.engine import data_connection, make_engine, reachable
from scorebeat.db.ledger import model_versions, outbox
from scorebeat.db.records import turns
from scorebeat.db.reports import results
from scorebeat.db.reports.pages import data_pages
from scorebeat.db.reports.pages.data_pages import Form, Page
from scorebeat.producer.requests.apply import apply
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.producer.requests.preview import preview
from tests.support import echo
from tests.support.cli_fixtures import Cli, scorebeat
from tests.support.fixtures import _execute, _other
from tests.support.shop import Shop

pytestmark = pytest.mark.wide(slow=10, quick=20)

__all__ = ["scorebeat"]

HOURS = (
    "CREATE TABLE ev (id int PRIMARY KEY, at timestamptz);"
    "INSERT INTO ev SELECT n, timestamptz '2026-07-01 00:00-04' + n * interval '1 hour' FROM generate_series(-30, 60) n"
)
OF_ONE_DAY = (
    "SELECT id, extract(hour FROM at)::float8 AS x, at::date::text AS word FROM ev WHERE at::date = DATE '2026-07-01'"
)
WORDS = "CREATE TABLE words (id text PRIMARY KEY, word text)"
OF_WORDS = "SELECT id, 1.0::float8 AS x, word FROM words"
HOSTILE = r"\'; COMMIT; DROP TABLE precious; --"


@pytest.fixture
def shop(settings: Settings, tmp_path: Path) -> Shop:
    made = Shop(settings)
    made.add_model(tmp_path)
    return made


@pytest.fixture
def latin(settings: Settings, stack: StackUrls, tmp_path: Path) -> Iterator[Shop]:
    """A database in LATIN1."""
    name = "latin"
    _execute(stack.database_url, f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    made = Shop(settings.model_copy(update={"database_url": _other(stack.database_url, name)}))
    made.migrate()
    made.add_model(tmp_path)
    yield made
    _execute(stack.database_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.quick
def test_a_query_runs_in_the_time_zone_of_its_database(shop: Shop) -> None:
    shop.sql(HOURS)
    shop.alter("timezone = 'America/New_York'")

    labels = shop.labels(OF_ONE_DAY)

    assert labels == dict.fromkeys(range(24), "2026-07-01")
    assert shop.sql("SELECT y FROM predictions.echoed WHERE id = 5") == [(5.0,)]


@pytest.mark.slow(quick=2)
@pytest.mark.parametrize("settings_of", ["timezone = 'America/New_York'", "datestyle = 'SQL, DMY'"])
def test_keys_that_are_times_are_written_as_before_whatever_the_settings(shop: Shop, settings_of: str) -> None:
    shop.sql(
        "CREATE TABLE ev (id timestamptz PRIMARY KEY, d int DEFAULT 1)",
        "INSERT INTO ev SELECT timestamptz '2026-03-07 22:30:00.25-05' + n * interval '1 hour'"
        " FROM generate_series(0, 20) n",
        "INSERT INTO ev VALUES ('2026-11-01 06:30+00'), ('0001-01-01 00:00:00.000001+00')",
        "INSERT INTO ev VALUES ('2026-11-01 05:30+00', 0)",
    )
    query = "SELECT id, 1.0::float8 AS x, (1 / d)::text AS word FROM ev"
    written = [row[0] for row in shop.sql("SELECT id::text FROM ev ORDER BY id")]
    shop.alter(settings_of)

    done = shop.run(query, batch_rows=5)

    cut = [written[at : at + 5] for at in range(0, len(written), 5)]
    assert (done.state, done.reason) == ("partial", None)
    assert shop.sql("SELECT first_key, last_key FROM scorebeat.batches ORDER BY number") == [
        ([part[0]], [part[-1]]) for part in cut
    ]
    assert shop.sql("SELECT count(*) FROM predictions.echoed") == [(len(written) - 1,)]
    assert shop.sql("SELECT key FROM scorebeat.quarantine") == [(["2026-11-01 05:30:00+00"],)]
    with shop.producer() as p:
        assert preview(p, "echoed").rows == 0


def test_keys_with_backslashes_are_scored_where_strings_do_not_conform(shop: Shop) -> None:
    shop.sql(WORDS, r"INSERT INTO words SELECT 'C:\temp\new' || n, 'w' FROM generate_series(1, 20) n")
    shop.alter("standard_conforming_strings = off")

    labels = shop.labels(OF_WORDS, batch_rows=3)

    assert labels == {rf"C:\temp\new{n}": "w" for n in range(1, 21)}


@pytest.mark.quick
def test_a_key_that_ends_a_string_drops_no_table(shop: Shop) -> None:
    shop.sql(WORDS, "CREATE TABLE precious ()")
    keys = [HOSTILE, "A", "B", "C", "a"]
    for key in keys:
        shop.sql(f"INSERT INTO words VALUES ($k${key}$k$, 'w')")
    shop.alter("standard_conforming_strings = off")

    labels = shop.labels(OF_WORDS, batch_rows=3)
    with shop.producer() as p:
        assert preview(p, "echoed").rows == 0

    assert labels == dict.fromkeys(keys, "w")
    assert shop.sql("SELECT to_regclass('precious') IS NOT NULL") == [(True,)]


ENCODINGS = {
    "database": "ALTER DATABASE {database} SET client_encoding = 'LATIN1'",
    "role": "ALTER ROLE postgres IN DATABASE {database} SET client_encoding = 'LATIN1'",
    "environment": "SELECT 1",
    "nothing": "SELECT 1",
}


@pytest.mark.slow(quick=5)
@pytest.mark.parametrize(("of", "by"), [*(("latin", by) for by in ENCODINGS), ("shop", "database")])
def test_labels_and_keys_arrive_as_they_are_whatever_the_encoding(
    of: str, by: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    here: Shop = request.getfixturevalue(of)
    words = {"müller": "città", "a": "plain", "ñ": "é", "z": "ÿ"}
    here.sql(WORDS)
    for key, word in words.items():
        here.sql(f"INSERT INTO words VALUES ('{key}', '{word}')")
    here.sql(ENCODINGS[by].format(database=make_url(here.url).database))
    if by == "environment":
        monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")

    assert here.labels(OF_WORDS, batch_rows=2) == words


def test_characters_that_the_database_lacks_cost_their_row_alone(latin: Shop) -> None:
    latin.sql(
        "CREATE TABLE items (id int PRIMARY KEY, x float8)",
        f"INSERT INTO items VALUES (1, 1), (2, {echo.RAISES}), (3, {echo.TRANSLATES}), (4, 4)",
    )

    done = latin.run("SELECT id, x, 'w'::text AS word FROM items", error_threshold=-1)

    assert done.state == "partial"
    assert latin.sql("SELECT id FROM predictions.echoed ORDER BY id") == [(1,), (4,)]
    quarantined = latin.sql("SELECT key, error_type, error FROM scorebeat.quarantine ORDER BY key")
    assert quarantined[0] == (["2"], "ValueError", "\\u65e5\\u672c")
    assert quarantined[1][0] == ["3"]
    assert "LATIN1" in quarantined[1][2]


def test_an_encoding_in_the_url_changes_no_label(shop: Shop) -> None:
    shop.sql(WORDS, "INSERT INTO words VALUES ('müller', 'città')")

    labels = shop.at(client_encoding="LATIN1", options="-c client_encoding=LATIN1").labels(OF_WORDS)

    assert labels == {"müller": "città"}


def test_a_database_without_an_encoding_is_refused_with_the_reason(stack: StackUrls) -> None:
    _execute(stack.database_url, "CREATE DATABASE bytes ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    url = _other(stack.database_url, "bytes")

    with pytest.raises(ServiceDown, match=r"SQL_ASCII.*ENCODING 'UTF8'"), reachable(url):
        make_engine(url).connect()
    with pytest.raises(ServiceDown, match=r"SQL_ASCII.*ENCODING 'UTF8'"):
        data_connection(url)

    _execute(stack.database_url, "DROP DATABASE bytes WITH (FORCE)")


@pytest.mark.parametrize("by", ["url", "environment"])
def test_options_of_the_user_are_kept(shop: Shop, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.sql("CREATE SCHEMA ml", "CREATE TABLE ml.words (id text PRIMARY KEY, word text)")
    shop.sql("INSERT INTO ml.words VALUES ('a', 'w')")
    if by == "environment":
        monkeypatch.setenv("PGOPTIONS", "-c search_path=ml")
    here = shop.at(options="-csearch_path=ml -c work_mem=5MB") if by == "url" else shop

    assert here.labels(OF_WORDS) == {"a": "w"}


def test_psql_has_the_session_that_a_query_has(
    shop: Shop, scorebeat: Cli, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shop.sql("CREATE SCHEMA ml", "CREATE TABLE ml.words (id text PRIMARY KEY, word text)")
    here = shop.at(options="-csearch_path=ml -c TimeZone=Asia/Tokyo")
    monkeypatch.setenv("SCOREBEAT_DATABASE_URL", here.url)

    assert scorebeat("psql", "-XAtc", "SELECT count(*), current_setting('TimeZone') FROM words").exit_code == 0
    assert capfd.readouterr().out == "0|Asia/Tokyo\n"


def test_check_reports_under_which_settings_a_job_runs(shop: Shop, scorebeat: Cli) -> None:
    shop.sql(WORDS)
    shop.labels(OF_WORDS)
    shop.alter("timezone = 'America/New_York'", "datestyle = 'SQL, DMY'")

    found = scorebeat("check").output

    assert (
        "job echoed: the query gives what model echo/1 wants; its SQL runs in the time zone America/New_York" in found
    )
    assert "DateStyle = SQL, DMY" in found


def locks(shop: Shop) -> int:
    return int(shop.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")[0][0])


@pytest.mark.slow(quick=2)
@pytest.mark.parametrize("what", ["pg_try_advisory_lock(7265626, hashtext('cpu'))", "pg_try_advisory_lock(id)"])
def test_a_lock_that_a_query_takes_ends_with_it(shop: Shop, what: str) -> None:
    shop.sql("CREATE TABLE items AS SELECT id, 1.0::float8 AS x FROM generate_series(1, 20) AS id")
    held = []

    with shop.scored(f"SELECT id, x, ({what})::text AS word FROM items WHERE {what}", batch_rows=5) as done:
        held.append(locks(shop))
        assert preview(done, "echoed").rows == 0
        held.append(locks(shop))

    assert held == [0, 0]
    assert shop.sql("SELECT count(*) FROM predictions.echoed") == [(20,)]


@pytest.mark.quick
def test_no_advisory_lock_holds_up_dispatch_or_publishing(shop: Shop) -> None:
    guesses = [(7265626, "cpu"), (7265626, "echo"), (7265627, "echo"), (7265627, "cpu")]
    with shop.producer() as p, p.engine.connect() as user, p.engine.begin() as connection:
        for number, name in guesses:
            user.execute(text("SELECT pg_advisory_lock(:number, hashtext(:name))"), {"number": number, "name": name})
        connection.exec_driver_sql("SET LOCAL lock_timeout = '1s'")

        assert outbox.mark_sent(connection, "cpu", 10) == []
        assert model_versions.keep_published(connection, "echo")
        assert model_versions.lock(connection, "echo", 1).version == 1


def test_one_works_at_a_turn_while_others_wait_or_are_refused(shop: Shop) -> None:
    with shop.producer() as p, p.engine.begin() as one, p.engine.begin() as other:
        turns.take(one, turns.PUBLISH, "echo")

        assert not turns.try_share(other, turns.PUBLISH, "echo")
        assert turns.try_share(other, turns.PUBLISH, "another")
        one.rollback()
        assert turns.try_share(other, turns.PUBLISH, "echo")


def test_a_query_cannot_take_a_turn(shop: Shop) -> None:
    shop.sql("CREATE TABLE items AS SELECT id FROM generate_series(1, 20) AS id")
    lock = "(SELECT count(*) FROM (SELECT FROM scorebeat.counters FOR UPDATE) AS c)"

    with pytest.raises(ScorebeatError, match="read-only transaction"):
        shop.run(f"SELECT id, {lock}::float8 AS x, 'w'::text AS word FROM items")


@pytest.mark.quick
def test_a_text_that_became_two_statements_runs_none_of_them(shop: Shop) -> None:
    """Applied where strings did not conform, run where they do."""
    shop.sql(WORDS, "CREATE TABLE precious ()", "INSERT INTO words VALUES ('a', 'w')")
    hidden = f"{OF_WORDS} WHERE word <> '\\') AS q; COMMIT; DROP TABLE precious; SELECT * FROM (SELECT 1 --'"
    shop.alter("standard_conforming_strings = off")
    assert shop.labels(hidden) == {"a": "w"}
    shop.sql("INSERT INTO words VALUES ('b', 'w')")
    shop.alter("standard_conforming_strings = on")

    with pytest.raises(QueryError), shop.producer() as p:
        enqueue(p, Request("echoed", "test"))

    assert shop.sql("SELECT to_regclass('precious') IS NOT NULL") == [(True,)]


@pytest.mark.parametrize("form", list(Form))
@pytest.mark.parametrize("rows", [data_pages.everything, data_pages.unpredicted])
def test_pages_of_source_rows_are_computed_by_the_users_settings_and_written_in_utc(
    shop: Shop, form: Form, rows: Callable[..., Page]
) -> None:
    shop.sql("CREATE TABLE ev (id int PRIMARY KEY, at timestamptz, f float8)")
    shop.labels("SELECT id, extract(hour FROM at)::float8 AS x, at::text AS word FROM ev")
    shop.sql("INSERT INTO ev VALUES (1, '2026-07-01 03:00+00', 0.1::float8 + 0.2)")
    shop.alter("timezone = 'America/New_York'", "datestyle = 'SQL, DMY'", "extra_float_digits = 0")
    with shop.producer() as p:
        job = Job.model_validate(
            {"name": "echoed", "query": "SELECT id, at, f AS x, at::date::text AS word FROM ev", "key": "id",
             "model": "echo"}
        )  # fmt: skip
        apply(p, [job], "test")
        with results.reading(p.engine) as connection:
            page = rows(connection, results.shape(connection, "echoed"), None, 10, form)

    shown = str(page.rows[0])
    assert "30/06/2026" in shown
    assert "0.30000000000000004" in shown
    assert ("2026-07-01T03:00:00+00:00" if form is Form.JSON else "2026-07-01 03:00:00+00") in shown


def test_a_key_whose_type_is_not_in_the_search_path_is_refused(shop: Shop) -> None:
    shop.sql(
        "CREATE SCHEMA ext",
        "CREATE EXTENSION citext SCHEMA ext",
        "CREATE TABLE folded (id ext.citext PRIMARY KEY, x float8, word text)",
        "INSERT INTO folded VALUES ('a', 1, 'u'), ('B', 2, 'v'), ('c', 3, 'w')",
    )

    with pytest.raises(UsageError, match=r"ext\.citext, whose schema is not in the search path"):
        shop.labels("SELECT id, x, word FROM folded")

    shop.alter("search_path = public, ext")
    assert shop.labels("SELECT id, x, word FROM folded") == {"a": "u", "B": "v", "c": "w"}
