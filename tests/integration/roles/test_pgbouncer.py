"""PgBouncer: a pooler that drops our sessions' settings is refused, and one whose role has them serves whole runs."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from scorebeat.core.errors import ServiceDown
from scorebeat.core.states import RunState
from scorebeat.db.connect.engine import data_connection, make_engine, reachable
from tests.docs.pages import REPOSITORY, Page
from tests.support.cli_fixtures import Cli
from tests.support.own_servers import OwnServers, own_servers
from tests.support.pgbouncer import pgbouncer
from tests.support.system import assert_scored_once, own_system, reached

pytestmark = pytest.mark.wide

PAGE = Page.read(REPOSITORY / "docs/how-to/own-servers.md")
SETTINGS = next(block.text for block in PAGE.blocks if "lock_timeout" in block.text)
ALL_IGNORED = "options"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServers]:
    with own_servers(tmp_path_factory.mktemp("pooled") / "data") as made:
        yield made


def connect(url: str) -> None:
    engine = make_engine(url, "test")
    try:
        with reachable(url), engine.connect():
            pass
    finally:
        engine.dispose()


def connect_for_data(url: str) -> None:
    data_connection(url, "test").close()


def allow_pooler(engine: Engine) -> None:
    """As documented, for one database."""
    with engine.begin() as connection:
        connection.exec_driver_sql(SETTINGS.replace("ROLE scorebeat", f'DATABASE "{engine.url.database}"'))


both_drivers = pytest.mark.parametrize("reach", [connect, connect_for_data])


@both_drivers
def test_a_pooler_that_refuses_our_settings_is_explained(
    reach: Callable[[str], None], servers: OwnServers, tmp_path: Path
) -> None:
    with (
        pgbouncer(tmp_path, servers.urls.database_url, "session") as pool,
        pytest.raises(ServiceDown, match=r"unsupported startup parameter.*takes no settings.*own-servers\.md"),
    ):
        reach(pool.url)


@both_drivers
def test_a_pooler_that_drops_our_settings_is_refused_with_what_was_lost(
    reach: Callable[[str], None], servers: OwnServers, tmp_path: Path
) -> None:
    with (
        pgbouncer(tmp_path, servers.urls.database_url, "session", ALL_IGNORED) as pool,
        pytest.raises(
            ServiceDown,
            match=r"dropped the settings of our sessions:.*jit is on, which is PostgreSQL's default,",
        ),
    ):
        reach(pool.url)


def test_a_whole_run_goes_through_a_session_pooler_set_up_as_documented(tmp_path: Path) -> None:
    with own_system(tmp_path) as plain:
        plain.execute(SETTINGS.replace("ROLE scorebeat", "ROLE postgres"))
        with (
            pgbouncer(tmp_path, plain.settings.database(), "session", ALL_IGNORED) as pool,
            reached(plain, database_url=pool.url) as s,
        ):
            job = s.job("pooled", rows=2_000, batch_rows=100)
            s.programs.control()
            s.programs.worker("cpu", processes=2)
            run = s.enqueue(job)

            assert s.until_finished(run) is RunState.SUCCEEDED
            assert_scored_once(s, job)


def test_a_bound_of_statements_holds_through_a_pooler(engine: Engine, tmp_path: Path) -> None:
    allow_pooler(engine)
    url = engine.url.render_as_string(hide_password=False)
    with pgbouncer(tmp_path, url, "session", ALL_IGNORED) as pool:
        bounded = make_engine(pool.url, "test", patience="100ms")
        for _ in range(2):  # a transaction that was undone takes no bound with it
            with bounded.connect() as connection, pytest.raises(OperationalError, match="statement timeout"):
                connection.exec_driver_sql("SELECT pg_sleep(5)")
        bounded.dispose()


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_check_finds_a_pooler_that_hands_sessions_on(
    mode: str, scorebeat: Cli, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_pooler(engine)
    url = engine.url.render_as_string(hide_password=False)
    with pgbouncer(tmp_path, url, mode, ALL_IGNORED) as pool:
        monkeypatch.setenv("SCOREBEAT_DATABASE_URL", pool.url)
        found = scorebeat("check")

    (line,) = [line for line in found.output.splitlines() if " database:" in line]
    assert ("pools transactions" in line, found.exit_code) == ((True, 2) if mode == "transaction" else (False, 0))
