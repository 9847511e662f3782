"""The promises of the embedded servers while they run, tried with real ones."""

import json
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

import adbc_driver_postgresql.dbapi as adbc
import kombu.connection
import psycopg2
import pytest
import sqlalchemy

from scorebeat.core.data_folder import STATE_FILE, StackUrls, running_stack
from scorebeat.core.errors import SettingsError
from scorebeat.ops.local.data_folder import locked
from scorebeat.ops.local.servers import postgres
from scorebeat.ops.local.servers.embedded import database_only, embedded
from tests.support.stack_helpers import broker, fast, mode, query_value, servers_of

pytestmark = pytest.mark.wide


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_the_urls_work_for_every_library_that_uses_them(stack: StackUrls) -> None:
    assert query_value(stack.database_url, "SELECT current_database()") == "scorebeat"
    engine = sqlalchemy.create_engine(sqlalchemy.make_url(stack.database_url).set(drivername="postgresql+psycopg2"))
    with engine.connect() as connection:
        assert connection.scalar(sqlalchemy.text("SELECT 1")) == 1
    with adbc.connect(stack.database_url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    with kombu.connection.Connection(stack.broker_url) as connection:
        assert connection.ensure_connection(max_retries=1)


def test_the_database_is_utf8_and_durable_by_default(data: Path) -> None:
    with embedded(data) as urls:
        assert query_value(urls.database_url, "SHOW server_encoding") == "UTF8"
        assert query_value(urls.database_url, "SELECT upper('é')") == "É"
        assert (
            query_value(urls.database_url, "SHOW fsync")
            == query_value(urls.database_url, "SHOW synchronous_commit")
            == "on"
        )
        assert query_value(urls.database_url, "SHOW timezone") == "UTC"


@pytest.mark.quick
def test_nobody_enters_without_the_password(stack: StackUrls) -> None:
    for wrong in (":wrong@", ":@", "@"):
        with pytest.raises(psycopg2.OperationalError, match="password"):
            psycopg2.connect(re.sub(r":[^:@/]+@", wrong, stack.database_url))


def test_the_servers_listen_on_private_sockets_only(stack: StackUrls) -> None:
    sockets = Path(urlsplit(stack.broker_url).path).parent
    assert mode(sockets) == 0o700
    assert mode(sockets / "valkey.sock") == mode(sockets / ".s.PGSQL.5432") == 0o700
    assert query_value(stack.database_url, "SHOW listen_addresses") == ""
    assert broker(stack).config_get("port") == {"port": "0"}


def test_the_broker_loses_nothing_by_design(stack: StackUrls) -> None:
    wanted = {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "everysec", "save": ""}

    assert broker(stack).config_get(*wanted) == wanted


def test_a_second_start_finds_the_data_of_the_first(data: Path) -> None:
    with fast(data) as urls:
        query_value(urls.database_url, "CREATE TABLE kept AS SELECT 42 AS n")
        broker(urls).set("kept", "42")

    with fast(data) as again:
        assert query_value(again.database_url, "SELECT n FROM kept") == 42
        assert broker(again).get("kept") == b"42"


def test_no_folder_outside_changes_and_nothing_inside_is_open(tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    outer.mkdir(mode=0o751)
    programs = postgres.binaries()
    before = {p: p.stat().st_mode for p in [outer, *outer.parents, programs, *programs.parents]}
    with fast(outer / "data"):
        assert {path: path.stat().st_mode for path in before} == before
        inside = [outer / "data", *(p for p in (outer / "data").rglob("*") if not p.is_symlink())]
        assert [path for path in inside if path.stat().st_mode & 0o077] == []


def test_other_commands_find_the_running_stack_and_only_a_running_one(data: Path) -> None:
    assert running_stack(data) is None
    with fast(data) as urls:
        assert running_stack(data) == urls
        assert mode(data / STATE_FILE) == 0o600
        state = (data / STATE_FILE).read_text()
    assert running_stack(data) is None

    (data / STATE_FILE).write_text(state)  # as a killed stack leaves it

    assert running_stack(data) is None
    with locked(data):  # the next one, before its servers are ready
        (data / STATE_FILE).write_text(json.dumps({**json.loads(state), "pid": os.getpid() + 1}))
        assert running_stack(data) is None


def test_urls_are_not_printed_with_their_password(stack: StackUrls) -> None:
    assert "postgresql" not in repr(stack)


def test_the_database_alone_is_started_if_there_is_one_and_never_made(data: Path) -> None:
    with pytest.raises(SettingsError, match="SCOREBEAT_DATABASE_URL is not set"), database_only(data):
        pytest.fail("an empty production")
    assert not data.exists()
    with fast(data):
        pass

    with database_only(data) as url:
        assert query_value(url, "SELECT 1") == 1
        assert running_stack(data) is None
    assert servers_of(data) == []
