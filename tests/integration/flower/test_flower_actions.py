"""Actions on Flower's pages: who may take them, their effect, their record."""

import socket
from base64 import b64encode
from contextlib import suppress

import httpx
import pytest

from scorebeat.db.ledger.jobs import JobRow
from scorebeat.db.ledger.jobs import get as job_of
from tests.support.flower_fixtures import NUMBERS, a_run, flower, guarded, recorded, s, states
from tests.support.flower_program import Flower, message_of, start_flower
from tests.support.system import System

pytestmark = pytest.mark.wide(quick=10)

__all__ = ["flower", "guarded", "s"]

TOKEN = {"Cookie": "_xsrf=1", "X-XSRFToken": "1"}
"""A token that Flower takes: what counts is that a page of its own could set the cookie."""


@pytest.fixture(scope="module")
def read_only(s: System) -> Flower:
    return start_flower(s, read_only="true")


@pytest.fixture(scope="module")
def reachable(s: System) -> Flower:
    """Open to everyone, without a login."""
    return start_flower(s, address="0.0.0.0")  # noqa: S104 -- that is what is tested


def job_row(s: System, name: str) -> JobRow:
    with s.engine.connect() as connection:
        return job_of(connection, name)


@pytest.mark.parametrize("path", ["/runs", "/runs/1", "/runs/batch/1"])
def test_a_visitor_without_a_login_sees_nothing(guarded: Flower, path: str) -> None:
    stranger = Flower(guarded.url)

    found = stranger.get(path)

    assert (found.status_code, found.text) == (401, "Access denied")


def test_a_visitor_without_a_login_changes_nothing(s: System, guarded: Flower) -> None:
    run = a_run(s, "partial", "of_a_stranger", "dead")
    wrong = Flower(guarded.url, "ann:wrong")

    for one in (Flower(guarded.url), wrong):
        assert one.post_with(TOKEN, f"/runs/{run}/requeue").status_code == 401
    assert states(s, run) == ["dead"]


def test_a_wrong_login_is_refused_whatever_its_characters(guarded: Flower) -> None:
    for login in ("ann:pässwort", "änn:secret", "ann:日本", "ann:\udcff"):
        credentials = b64encode(login.encode("utf-8", "surrogateescape")).decode()
        for path in ("/runs", "/workers", "/api/workers"):
            response = httpx.get(guarded.url + path, headers={"Authorization": f"Basic {credentials}"}, timeout=30)
            assert response.status_code == 401, (login, path)


def test_connections_that_never_send_a_whole_request_are_closed_by_flower(flower: Flower) -> None:
    port = int(flower.url.rpartition(":")[2])
    head = b"GET /runs HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    halves = (b"", head, b"POST" + head[3:] + b"Content-Length: 9\r\n\r\n{")
    sent = [(half, socket.create_connection(("127.0.0.1", port))) for half in halves]
    for half, connection in sent:
        connection.sendall(half)

    for _, connection in sent:
        connection.settimeout(60)
        with suppress(ConnectionResetError):
            while connection.recv(4096):  # until Flower hangs up
                pass
        connection.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:9"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://127.0.0.1:9"},
        {"Origin": "null"},
    ],
)
def test_a_page_of_another_port_or_site_presses_no_button(s: System, flower: Flower, headers: dict[str, str]) -> None:
    run = a_run(s, "partial", f"another_page_{next(NUMBERS)}", "dead")

    response = flower.post_with(TOKEN | headers, f"/runs/{run}/requeue")

    assert response.status_code == 403
    assert states(s, run) == ["dead"]


@pytest.mark.parametrize("with_site", [True, False])
def test_a_page_of_its_own_presses_a_button(s: System, flower: Flower, with_site: bool) -> None:
    run = a_run(s, "partial", f"own_page_{next(NUMBERS)}", "dead")
    site = {"Sec-Fetch-Site": "same-origin"} if with_site else {}

    response = flower.post_with(TOKEN | {"Origin": flower.url} | site, f"/runs/{run}/requeue")

    assert response.status_code == 200, response.text
    assert states(s, run) == ["pending"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-XSRFToken": "1"},
        {"Cookie": "_xsrf=1"},
        {"Cookie": "_xsrf=1", "X-XSRFToken": "2"},
        TOKEN | {"Origin": "http://evil.example", "X-XSRFToken": ""},
    ],
)
@pytest.mark.parametrize("what", ["requeue", "cancel"])
def test_without_the_pages_token_nothing_is_done(s: System, flower: Flower, what: str, headers: dict[str, str]) -> None:
    run = a_run(s, "partial", f"no_token_{next(NUMBERS)}", "dead")

    response = flower.post_with(headers, f"/runs/{run}/{what}")

    assert response.status_code == 403
    assert states(s, run) == ["dead"]
    assert recorded(s, f"run {run}") == []


def test_in_read_only_mode_there_are_no_buttons_and_nothing_is_done(s: System, read_only: Flower) -> None:
    run = a_run(s, "partial", "only_read", "dead")

    page, response = read_only.get(f"/runs/{run}").text, read_only.post(f"/runs/{run}/requeue")

    assert "data-act" not in page + read_only.get("/runs").text
    assert "read-only" in page
    assert (response.status_code, message_of(response)) == (403, "Flower is in read-only mode.")
    assert read_only.post("/runs/job/only_read/pause").status_code == 403
    assert states(s, run) == ["dead"]
    assert job_row(s, "only_read").paused_at is None


def test_a_reachable_flower_without_a_login_is_read_only(s: System, reachable: Flower) -> None:
    run = a_run(s, "partial", "reachable", "dead")

    page, response = reachable.get(f"/runs/{run}").text, reachable.post(f"/runs/{run}/requeue")

    assert "data-act" not in page
    assert response.status_code == 403
    assert "--basic-auth" in message_of(response)
    assert states(s, run) == ["dead"]


def test_another_sites_name_for_this_machine_is_not_this_machine(s: System, flower: Flower) -> None:
    run = a_run(s, "partial", "rebound", "dead")

    response = flower.post_with({"Host": "evil.example:5555"} | TOKEN, f"/runs/{run}/requeue")

    assert response.status_code == 403
    assert states(s, run) == ["dead"]


def test_a_requeue_resumes_the_run_and_records_its_user(s: System, flower: Flower, guarded: Flower) -> None:
    first, second = a_run(s, "partial", "back_1", "dead", "dead"), a_run(s, "partial", "back_2", "dead")

    responses = flower.post(f"/runs/{first}/requeue"), guarded.post(f"/runs/{second}/requeue")

    assert [message_of(response) for response in responses] == [
        f"2 batches of run {first} put back.",
        f"1 batch of run {second} put back.",
    ]
    assert states(s, first) + states(s, second) == ["pending"] * 3
    assert recorded(s, f"run {first}") == [("run.requeued", "flower")]
    assert recorded(s, f"run {second}") == [("run.requeued", "ann")]
    assert "<bdi>ann</bdi>: run.requeued" in guarded.get(f"/runs/{second}").text


def test_a_name_that_nobody_checked_is_not_recorded(s: System, flower: Flower) -> None:
    run = a_run(s, "partial", "unchecked", "dead")

    Flower(flower.url, "director:x").post(f"/runs/{run}/requeue")

    assert recorded(s, f"run {run}") == [("run.requeued", "flower")]


def test_a_run_is_cancelled_once(s: System, flower: Flower) -> None:
    run = a_run(s, "running", "stopped", "pending")

    once, again = (message_of(flower.post(f"/runs/{run}/cancel")) for _ in range(2))

    assert (once, again) == (f"Run {run} is cancelled.", f"Run {run} was over already; nothing was changed.")
    assert states(s, run) == ["cancelled"]
    assert recorded(s, f"run {run}") == [("run.cancelled", "flower")]
    assert flower.post(f"/runs/{run}/requeue").status_code == 409


def test_a_job_is_paused_with_a_reason_resumed_and_run_now(s: System, guarded: Flower) -> None:
    s.execute("UPDATE scorebeat.jobs SET removed_at = now()")  # those of other tests have no tables
    job = s.job("by_button")

    guarded.post("/runs/job/by_button/pause", reason="the table is <rebuilt>")
    paused = job_row(s, job.name)
    shown = guarded.get("/runs").text
    guarded.post("/runs/job/by_button/resume")
    response = guarded.post("/runs/job/by_button/run")

    assert (paused.paused_by, paused.paused_reason) == ("ann", "the table is <rebuilt>")
    assert "by ann: the table is &lt;rebuilt&gt;" in shown
    assert job_row(s, job.name).paused_at is None
    assert [action for action, _ in recorded(s, "job by_button")] == ["job.paused", "job.resumed"]
    assert s.query("SELECT created_by FROM scorebeat.runs WHERE job = 'by_button'") == [("ann",)]
    assert response.status_code == 200
    assert guarded.post("/runs/job/by_button/run").status_code == 409


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/runs/987654321/requeue", {}, 404),
        ("/runs/987654321/cancel", {}, 404),
        ("/runs/job/nobody/run", {}, 404),
        ("/runs/job/%27%3B--/pause", {}, 404),
        ("/runs/{run}/requeue", {"batch": "-1"}, 400),
        ("/runs/{run}/requeue", {"batch": ""}, 400),
        ("/runs/{run}/requeue", {"group": ""}, 400),
        ("/runs/{run}/requeue", {"group": "Broken: oh"}, 400),
        ("/runs/{run}/requeue", {"error": "of a page from before"}, 400),
        ("/runs/{run}/requeue?bach=1", {}, 400),
        ("/runs/{run}/requeue", {"batch": "987654321"}, 404),
        ("/runs/{run}/erase", {}, 404),
    ],
)
def test_an_action_on_something_that_does_not_exist_reports_that(
    s: System, flower: Flower, path: str, fields: dict[str, str], status: int
) -> None:
    run = a_run(s, "partial", f"not_there_{next(NUMBERS)}", "dead")

    response = flower.post(path.format(run=run), **fields)

    assert response.status_code == status
    assert "Traceback" not in response.text
    assert states(s, run) == ["dead"]
