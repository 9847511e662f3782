"""The promises of `up`, tried with real servers and real signals."""

import os
import signal
import socket
from functools import partial
from pathlib import Path

import pytest

from scorebeat.core.data_folder import STATE_FILE, running_stack
from scorebeat.core.errors import SettingsError, UsageError
from scorebeat.core.settings import Settings
from scorebeat.ops.local.up import own_processes, up
from tests.support.stack_helpers import alive, fast, query_value, responds, running_up, servers_of, wait_for

pytestmark = pytest.mark.wide


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_a_second_stack_on_the_folder_is_refused_with_the_process_that_has_it(data: Path) -> None:
    with running_up(data) as first:
        first.until("starting ticker")
        with pytest.raises(UsageError, match=f"process {first.process.pid} runs"), fast(data):
            pytest.fail("two stacks on one folder")
        assert running_stack(data) is not None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_and_leaves_no_socket(data: Path, number: signal.Signals) -> None:
    with running_up(data) as running:
        running.until("ticker    | tick postgresql")
        running.process.send_signal(number)
        running.until("postgres ended with status 0")
        assert running.process.wait(30) == 0

    assert running.lines.index("prepared") < next(
        i for i, line in enumerate(running.lines) if "starting ticker" in line
    )
    assert servers_of(data) == []
    assert not (data / "run").exists()
    assert not (data / STATE_FILE).exists()


@pytest.mark.parametrize("server", ["postgres", "valkey"])
def test_a_server_that_is_killed_is_started_again_on_the_same_data(data: Path, server: str) -> None:
    with running_up(data) as running:
        running.until("starting ticker")
        urls = running_stack(data)
        assert urls is not None
        query_value(urls.database_url, "CREATE TABLE kept AS SELECT 42 AS n")
        os.kill(running.server(server), signal.SIGKILL)

        running.until(f"{server} killed by SIGKILL; it is started again in 1 s")
        running.until(f"starting {server} again")

        wait_for(partial(responds, urls))
        assert query_value(urls.database_url, "SELECT n FROM kept") == 42


def test_a_killed_stack_leaves_nothing_running_and_starts_again(data: Path, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--postgres") == "15":
        pytest.skip("a stack of a program of its own has the embedded PostgreSQL")
    with running_up(data) as running:
        running.until("starting ticker")
        servers = servers_of(data)
        assert len(servers) > 2
        running.process.kill()

    with fast(data) as urls:  # waits for the old servers' own shutdown
        assert not any(alive(pid) for pid in servers)
        assert query_value(urls.database_url, "SELECT 1") == 1


def test_a_failed_preparation_stops_the_servers(data: Path) -> None:
    def fails(settings: Settings) -> None:
        assert settings.database_url is not None
        raise UsageError("jobs.toml has a mistake")

    with pytest.raises(UsageError, match="a mistake"):
        up(Settings(data=data), fails, lambda _: [])
    assert servers_of(data) == []


def test_one_url_without_the_other_is_refused(data: Path) -> None:
    with pytest.raises(SettingsError, match="SCOREBEAT_BROKER_URL is not set"):
        up(Settings(data=data, database_url="postgresql://u@h/d"), lambda _: None)
    with pytest.raises(SettingsError, match="SCOREBEAT_DATABASE_URL is not set"):
        up(Settings(data=data, broker_url="redis://h"), lambda _: None)
    assert not data.exists()


def test_with_both_urls_no_server_is_started(data: Path) -> None:
    seen = []

    def stop_at_once(settings: Settings) -> None:
        seen.append(settings.broker_url)
        os.kill(os.getpid(), signal.SIGTERM)

    configured = Settings(data=data, database_url="postgresql://u@h/d", broker_url="redis://h")
    assert up(configured, stop_at_once, lambda _: pytest.fail("stopped before")) == 0
    assert seen == ["redis://h"]
    assert not data.exists()


def test_secrets_reach_the_children_by_environment_only() -> None:
    settings = Settings(database_url="postgresql://u:hidden@/d", broker_url="redis://:hidden@h")

    for process in own_processes(settings):
        assert not any("hidden" in word for word in process.argv)
        assert process.env is not None
        assert process.env["SCOREBEAT_DATABASE_URL"] == settings.database_url
        assert process.env["SCOREBEAT_BROKER_URL"] == settings.broker_url


def test_flower_takes_another_port_when_its_own_is_busy() -> None:
    settings = Settings(database_url="postgresql://u@h/d", broker_url="redis://h")
    with socket.socket() as busy:
        busy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            busy.bind(("127.0.0.1", 5555))
        except OSError:
            pass  # someone else's: as good
        else:
            busy.listen()
        flower = own_processes(settings)[-1]

    assert "--port=5555" not in flower.argv
    assert flower.note == f"Flower: http://127.0.0.1:{flower.argv[-1].removeprefix('--port=')}"
