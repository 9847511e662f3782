"""Flower reads events and replies from the broker, where anybody may write: anything else is a line in its log."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from subprocess import Popen
from threading import Event
from typing import Any

import pytest
import redis

from scorebeat.broker.app import make_app
from scorebeat.core.queues import SCORE
from scorebeat.core.states import RunState
from scorebeat.worker.lifecycle.clock import LATEST
from tests.support import forged
from tests.support.fixtures import wait_for
from tests.support.flower_program import Flower, start_flower
from tests.support.forged_events import HEARTBEATS, changed, events, heard, replying, wrong_replies
from tests.support.system import System, own_system

pytestmark = pytest.mark.wide

MORE_MEMORY = 120
"""MiB that Flower may have more after a bomb of 256."""


@pytest.fixture(scope="module")
def s(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system")) as made:
        made.programs.worker("cpu", name="cpu")
        made.programs.control()
        yield made


@pytest.fixture(scope="module")
def flower(s: System) -> Flower:
    return start_flower(s, login="ann:a-long-password")


@pytest.fixture(scope="module")
def program(s: System, flower: Flower) -> "Popen[bytes]":  # noqa: ARG001 -- it is the last that was started
    return s.programs.started[-1][0]


@pytest.fixture(scope="module")
def worker(flower: Flower) -> str:
    """The scoring worker's name, which Flower knows."""
    names: list[str] = wait_for(lambda: [row["hostname"] for row in rows(flower) if row["hostname"].startswith("cpu")])
    wait_for(lambda: names[0] in flower.get("/api/workers?refresh=1").text)
    return names[0]


def rows(flower: Flower) -> list[dict[str, Any]]:
    """Of Flower's list of workers."""
    found: list[dict[str, Any]] = flower.get("/workers?json=1").json()["data"]
    return found


def test_an_invalid_event_is_one_line_in_flowers_log_and_true_ones_go_on(
    s: System, flower: Flower, program: "Popen[bytes]", worker: str
) -> None:
    true = heard(s)
    bad = {name: raw for name, raw in (forged.envelopes(true) | events(true)).items() if 0 < len(raw) < 1_000_000}
    memory = mebibytes(program)

    with redis.Redis(unix_socket_path=s.servers.broker_socket) as client:
        assert [client.publish(s.key(HEARTBEATS), raw) for raw in bad.values()] == [1] * len(
            bad
        )  # Flower hears, no worker
        for kind in ("worker.elect", "worker.elect.ack", "worker.online"):
            assert client.publish(s.key(f"/0.celeryev/{kind}"), changed(true, id={}, type=kind)) == 1
    wait_for(lambda: len(refusals(s, program)) >= len(bad))

    assert len(refusals(s, program)) == len(bad)
    assert mebibytes(program) - memory < MORE_MEMORY
    assert_it_goes_on(s, flower, worker)
    log = s.programs.log(program)
    assert "message.refused place=" in log
    assert forged.PAYLOAD[:20] not in log
    assert "Traceback" not in log
    assert "Failed to capture" not in log


def test_a_forged_clock_keeps_nobody_from_being_heard(s: System, flower: Flower, worker: str) -> None:
    true = heard(s)
    for clock in (LATEST, 2**63 - 1):
        with redis.Redis(unix_socket_path=s.servers.broker_socket) as client:
            assert client.publish(s.key(HEARTBEATS), changed(true, clock=clock)) == 1
        requested_before = Event()

        def reply(_: str, clock: int = clock, requested: Event = requested_before) -> list[bytes]:
            requested.set()
            return [forged.altered(true, headers={"ticket": "another", "clock": clock})]

        with replying(s, reply):
            press(flower, worker, "grow")  # who commands one worker waits for the first reply only
            press(flower, worker, "shrink")
        assert requested_before.is_set()
        stranger = make_app(s.p.settings, s.p.app.prefix)
        stranger.control.mailbox.clock.value = clock - 1
        stranger.control.broadcast("heartbeat")  # of that clock, which workers reply with
        assert [grow(flower, worker) for _ in range(2)] == [200, 200], clock
        assert_it_goes_on(s, flower, worker)


def test_forged_replies_keep_no_button_from_working(
    s: System, flower: Flower, program: "Popen[bytes]", worker: str
) -> None:
    before, start = len(refusals(s, program)), len(s.programs.log(program))
    true = heard(s)
    junk = [raw for raw in forged.envelopes(true).values() if len(raw) < 10_000_000]
    with replying(s, lambda ticket: [*junk, *wrong_replies(true, ticket)]):
        statuses = {grow(flower, worker) for _ in range(5)}
        wait_for(lambda: grow(flower, worker) == 200 and len(refusals(s, program)) > before)

    assert statuses == {200}
    assert any("reply.celery.pidbox" in line for line in refusals(s, program)[before:])
    assert "Traceback" not in s.programs.log(program)[start:]
    assert_it_goes_on(s, flower, worker)


def test_flowers_buttons_report_their_result(s: System, flower: Flower, program: "Popen[bytes]", worker: str) -> None:
    kept, start = s.programs.started[0][0], len(s.programs.log(program))
    refused = len(refusals(s, kept))

    responses = {
        path: flower.post_with({}, f"/api/{path}")
        for path in (
            f"worker/pool/restart/{worker}",
            f"task/timeout/{SCORE}?workername={worker}&soft=1",
            f"task/rate-limit/{SCORE}?workername={worker}&ratelimit=1",
        )
    }
    revoked = flower.post_with({}, "/api/task/revoke/11111111?terminate=true&signal=SIGTERM")
    assert flower.post_with({}, "/api/task/revoke/22222222?terminate=false&signal=SIGTERM").status_code == 200

    for path, response in responses.items():
        assert (response.status_code, "do not take this command" in response.text) == (403, True), path
    assert revoked.status_code == 200
    wait_for(lambda: "11111111" in str(s.p.app.control.inspect(timeout=2).revoked()))
    assert len(refusals(s, kept)) == refused
    assert "Traceback" not in s.programs.log(program)[start:]


def test_a_heartbeat_with_odd_fields_spoils_no_page(s: System, flower: Flower) -> None:
    true = heard(s)
    for name in ("freq", "active", "processed", "loadavg", "sw_ident", "sw_ver", "sw_sys", "pid"):
        odd: dict[str, Any] = {"text": "x", "null": None, "object": {}, "list": [1], "large": 2**70}
        workers = {f"odd-{kind}@{name}": value for kind, value in odd.items()}
        with redis.Redis(unix_socket_path=s.servers.broker_socket) as client:
            for worker, value in workers.items():
                client.publish(s.key(HEARTBEATS), changed(true, hostname=worker, **{name: value}))
        wait_for(partial(in_list, flower, set(workers)))

        assert [flower.get(page).status_code for page in ("/", "/workers", "/tasks")] == [200] * 3, name


def in_list(flower: Flower, workers: set[str]) -> bool:
    return workers <= {row["hostname"] for row in rows(flower)}


def assert_it_goes_on(s: System, flower: Flower, worker: str) -> None:
    """Flower hears of the tasks of a new run."""
    job = s.job(f"seen_{len(s.query('SELECT 1 FROM scorebeat.jobs'))}")
    run = s.enqueue(job)
    assert s.until_finished(run) is RunState.SUCCEEDED
    batches = {str(batch) for (batch,) in s.query("SELECT id FROM scorebeat.batches WHERE run_id = :run", run=run)}
    wait_for(lambda: batches <= set(re.findall(r"\d+", str(flower.get("/api/tasks?limit=100").json()))))
    assert worker in flower.get("/workers?json=1").text


def grow(flower: Flower, worker: str) -> int:
    """Status of Flower's button for one more process, as a page presses it; it is taken away again."""
    status = press(flower, worker, "grow")
    assert press(flower, worker, "shrink") == 200
    return status


def press(flower: Flower, worker: str, button: str) -> int:
    return flower.post_with({}, f"/api/worker/pool/{button}/{worker}?n=1").status_code


def refusals(s: System, program: "Popen[bytes]") -> list[str]:
    return [line for line in s.programs.log(program).splitlines() if "message.refused" in line]


def mebibytes(program: "Popen[bytes]") -> float:
    status = Path(f"/proc/{program.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024
