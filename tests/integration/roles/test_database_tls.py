"""TLS to PostgreSQL: both drivers verify the server, in every process, and report plainly why they cannot."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from scorebeat.core.errors import ServiceDown
from scorebeat.core.states import RunState
from scorebeat.db.connect.engine import data_connection, make_engine, reachable
from scorebeat.ops.cli.commands.installation.checks import transport
from tests.support.certificates import certificates
from tests.support.postgres_tls import CERTIFIED, PASSWORD, TlsServer, tls_server
from tests.support.system import assert_scored_once, own_system

pytestmark = pytest.mark.wide

Reach = Callable[[str], bool]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    folder = tmp_path_factory.mktemp("tls")
    with tls_server(folder, certificates(folder / "ours")) as made:
        yield made


def by_the_control_plane(url: str) -> bool:
    """Whether the session is encrypted. Raises ServiceDown."""
    engine = make_engine(url, "test")
    try:
        with reachable(url), engine.connect() as connection:
            return bool(connection.execute(text(IS_ENCRYPTED)).scalar_one())
    finally:
        engine.dispose()


def by_the_data_plane(url: str) -> bool:
    """Likewise."""
    with data_connection(url, "test") as connection, connection.cursor() as cursor:
        cursor.execute(IS_ENCRYPTED)
        return cursor.fetchall() == [(True,)]


IS_ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
both_drivers = pytest.mark.parametrize("reach", [by_the_control_plane, by_the_data_plane])


def refusal(reach: Reach, url: str) -> str:
    with pytest.raises(ServiceDown) as caught:
        reach(url)
    text = str(caught.value)
    assert "\n" not in text
    assert PASSWORD not in text
    assert "Check SCOREBEAT_DATABASE_URL" in text
    return text


@both_drivers
def test_a_server_of_the_named_authority_and_host_is_reached(reach: Reach, server: TlsServer) -> None:
    assert reach(server.url())


@both_drivers
def test_a_server_of_another_authority_is_refused(reach: Reach, server: TlsServer, tmp_path: Path) -> None:
    text = refusal(reach, server.url(sslrootcert=certificates(tmp_path / "theirs").ca))

    assert "certificate verify failed" in text


@both_drivers
def test_a_server_of_another_name_is_refused(reach: Reach, server: TlsServer) -> None:
    text = refusal(reach, server.url(host="127.0.0.1"))

    assert 'does not match host name "127.0.0.1"' in text


@both_drivers
def test_an_authority_that_is_not_there_is_named(reach: Reach, server: TlsServer, tmp_path: Path) -> None:
    text = refusal(reach, server.url(sslrootcert=tmp_path / "none.pem"))

    assert 'none.pem" does not exist' in text


@both_drivers
def test_a_path_without_a_slash_in_front_starts_at_the_working_directory(
    reach: Reach, server: TlsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(server.certificates.ca.parent)

    assert reach(server.url(sslrootcert="ca.pem"))


@both_drivers
def test_a_server_that_requires_our_certificate_is_shown_it(reach: Reach, server: TlsServer) -> None:
    _role(server, CERTIFIED)
    certificate, key = server.certificates.issue(CERTIFIED)

    assert reach(server.url(user=CERTIFIED, sslcert=certificate, sslkey=key))
    assert "client certificate" in refusal(reach, server.url(user=CERTIFIED))


def test_every_process_does_its_part_of_a_run_over_tls(server: TlsServer, tmp_path: Path) -> None:
    with own_system(tmp_path, database_url=server.url()) as s:
        job = s.job("over_tls")
        s.programs.control()
        s.programs.worker("cpu")
        run = s.enqueue(job)

        assert s.until_finished(run) is RunState.SUCCEEDED
        assert_scored_once(s, job)
        sessions = "pg_stat_ssl JOIN pg_stat_activity a USING (pid) WHERE a.backend_type = 'client backend'"
        assert set(s.query(f"SELECT ssl FROM {sessions}")) == {(True,)}
        assert s.query(f"SELECT 1 FROM {sessions} AND a.application_name LIKE '% data'")


@pytest.mark.parametrize(
    ("url", "warns"),
    [
        ("postgresql://u@db.example.org/d", True),
        ("postgresql://u@db.example.org/d?sslmode=require&sslrootcert=/ca.pem", True),
        ("postgresql://u@db.example.org/d?sslmode=verify-ca", True),
        ("postgresql://u@db.example.org/d?sslmode=verify-full", False),
        ("postgresql://u@/d?host=db.example.org", True),
        ("postgresql://u@/d?host=/run/postgresql", False),
        ("postgresql://u@/d?host=/run/postgresql,db.example.org", True),
        ("postgresql://u@localhost/d", False),
        ("postgresql://u@127.0.0.1/d", False),
        ("postgresql://u@[::1]/d", False),
        ("redis://cache.example.org/0", True),
        ("rediss://cache.example.org/0", False),
        ("redis://localhost/0", False),
        ("redis+socket:///run/valkey.sock", False),
    ],
)
def test_check_warns_where_whoever_is_on_the_way_could_read_along(url: str, warns: bool) -> None:
    found = transport("service", url)

    assert bool(found) is warns
    assert not warns or found[0].verdict == "warning"


def _role(server: TlsServer, name: str) -> None:
    engine = make_engine(server.url(), "test")
    with engine.begin() as connection:
        known = connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": name}).scalar()
        if known is None:
            connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    engine.dispose()
