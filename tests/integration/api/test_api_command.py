"""`scorebeat api` as a person starts it."""

import signal
import socket
import time
from contextlib import suppress

import httpx
import pytest

from tests.support.api_fixtures import BEARER, TOKEN, scored
from tests.support.cli_fixtures import Cli, refused
from tests.support.fixtures import Programs, wait_for
from tests.support.ledger_fixtures import Ledger, ledger, trained

pytestmark = pytest.mark.wide

__all__ = ["ledger", "scored", "trained"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_stopped(programs: Programs, scored: Ledger, how: signal.Signals) -> None:
    process = programs.start("scorebeat.ops.cli", "api", "--port", "0", SCOREBEAT_API_TOKEN=TOKEN)
    lines = wait_for(lambda: [line for line in programs.log(process).splitlines() if line.startswith("serving ")])
    url = lines[0].removeprefix("serving ")

    with httpx.Client(base_url=url, headers=BEARER) as client:
        wait_for(lambda: client.get("/ready").status_code == 200)
        assert client.get("/data/25").json()["state"] == "predicted"
        assert client.get("/data/25", headers={"Authorization": ""}).status_code == 401

    programs.stop(process, how)
    assert process.returncode == 0
    assert TOKEN not in programs.log(process)
    assert scored.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'scorebeat api'") == [0]


@pytest.mark.usefixtures("scored")
def test_connections_that_never_send_a_whole_request_are_closed(programs: Programs) -> None:
    process = programs.start("scorebeat.ops.cli", "api", "--port", "0", SCOREBEAT_API_TOKEN=TOKEN)
    lines = wait_for(lambda: [line for line in programs.log(process).splitlines() if line.startswith("serving ")])
    port = int(lines[0].rpartition(":")[2])
    halves = [
        b"",
        b"GET /runs HTTP/1.1\r\nHost: x\r\n",
        b"POST /runs HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
    ]
    again = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" + halves[1]
    sent = [(half, socket.create_connection(("127.0.0.1", port))) for half in [*halves, again] * 25]
    for half, connection in sent:
        connection.sendall(half)

    with httpx.Client(base_url=lines[0].removeprefix("serving "), headers=BEARER, timeout=60) as client:
        for _, connection in sent:
            connection.settimeout(60)
            with suppress(ConnectionResetError):
                while connection.recv(4096):  # until the server hangs up
                    pass
            connection.close()
        assert client.get("/data/25").json()["state"] == "predicted"

    slow = socket.create_connection(("127.0.0.1", port))
    for part in (b"GET /health HTTP/1.1\r\n", b"Host: x\r\n", b"\r\n"):
        slow.sendall(part)
        time.sleep(0.5)
    assert slow.recv(4096).startswith(b"HTTP/1.1 200")
    slow.close()


def test_a_port_that_is_taken_is_reported_with_exit_code_2(scorebeat: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = refused(scorebeat("api", "--port", str(port)), f"cannot listen on 127.0.0.1 port {port}: Address")

    assert message.endswith(": Address already in use; choose another by --port, 0 takes any free one\n")


@pytest.mark.parametrize("weak", ["tooshort", "with spaces in between them", "not-ascii-ä-but-long-enough"])
def test_a_token_that_is_guessed_easily_is_refused_and_not_shown(
    scorebeat: Cli, monkeypatch: pytest.MonkeyPatch, weak: str
) -> None:
    monkeypatch.setenv("SCOREBEAT_API_TOKEN", weak)

    message = refused(scorebeat("api"), "SCOREBEAT_API_TOKEN: is no safe token; expected at least 16")

    assert weak not in message
