"""A search path in which something comes before PostgreSQL's own: found when a session begins, and refused in words."""

from pathlib import Path

import pytest

from scorebeat.core.errors import ServiceDown
from scorebeat.core.settings import Settings
from scorebeat.db.connect.engine import data_connection, make_engine, reachable
from tests.support.cli_fixtures import Cli, scorebeat
from tests.support.shop import Shop

__all__ = ["scorebeat"]

SHADOWS = {
    "function test.clock_timestamp": "CREATE FUNCTION test.clock_timestamp() RETURNS timestamptz LANGUAGE sql"
    " AS $$ SELECT timestamptz '2020-01-01' $$",
    "function test.count": "CREATE AGGREGATE test.count(*) (SFUNC = int8inc, STYPE = bigint, INITCOND = '7')",
    "operator test.=": "CREATE OPERATOR test.= (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_catalog.textne)",
    "operator test.-": "CREATE OPERATOR test.- (RIGHTARG = int, FUNCTION = pg_catalog.int4abs)",
    "relation test.pg_settings": "CREATE VIEW test.pg_settings AS SELECT ''::text AS name, '' AS setting",
    "relation test.pg_class": "CREATE TABLE test.pg_class (oid oid)",
    "relation test.pg_index": "CREATE TABLE test.of_index (n int); CREATE INDEX pg_index ON test.of_index (n)",
    "type test.int4": "CREATE DOMAIN test.int4 AS text",
    "type test.timestamptz": "CREATE TYPE test.timestamptz AS ENUM ('never')",
}
PATH = "search_path = test, public, pg_catalog"


def _by_engine(url: str) -> None:
    with reachable(url):
        make_engine(url).connect().close()


def _by_driver(url: str) -> None:
    data_connection(url).close()


WAYS = (_by_engine, _by_driver)


@pytest.fixture
def shop(settings: Settings, tmp_path: Path) -> Shop:
    made = Shop(settings)
    made.add_model(tmp_path)
    made.sql("CREATE SCHEMA test", "CREATE TABLE test.words (id text PRIMARY KEY, word text)")
    made.sql("INSERT INTO test.words VALUES ('a', 'w'), ('b', 'w')")
    return made


def test_objects_that_shadow_postgresqls_own_are_named_when_a_session_begins(shop: Shop, scorebeat: Cli) -> None:
    shop.alter(PATH)
    for what, statement in SHADOWS.items():
        shop.sql(statement)
        for connect in WAYS:
            with pytest.raises(ServiceDown, match=rf"the {what} comes before .*Put pg_catalog first"):
                connect(shop.url)
        if what == "operator test.=":
            result = scorebeat("check")
            assert result.exit_code == 2
            assert f"problem  database: search_path is test,public,pg_catalog: in it the {what} comes" in result.output
        shop.sql("DROP SCHEMA test CASCADE", "CREATE SCHEMA test")


@pytest.mark.slow(quick=2)
@pytest.mark.parametrize("of", ["database", "url"])
def test_a_path_of_a_url_or_a_database_with_nothing_in_the_way_is_used(shop: Shop, of: str) -> None:
    shop.sql("CREATE EXTENSION citext SCHEMA test")  # its functions and operators take its own type
    shop.sql("CREATE FUNCTION test.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    if of == "database":
        shop.alter(PATH)
    here = shop if of == "database" else shop.at(options="-c search_path=test,public,pg_catalog")

    assert here.labels("SELECT id, mine()::float8 AS x, word FROM words") == {"a": "w", "b": "w"}


@pytest.mark.slow(quick=2)
@pytest.mark.parametrize("path", ["pg_catalog, test", "test, public"])
def test_a_path_in_which_pg_catalog_is_first_hides_nothing(shop: Shop, path: str) -> None:
    shop.alter(f"search_path = {path}")
    shop.sql(*SHADOWS.values())

    assert shop.labels("SELECT id, 1.0::float8 AS x, word FROM words") == {"a": "w", "b": "w"}
