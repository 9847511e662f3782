"""Every failed post of a notice is an attempt: reported, followed by a pause, and at last the end of the delivery."""

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from scorebeat.db.records import notices
from scorebeat.db.records.notices import Notice
from scorebeat.producer.context import Producer
from scorebeat.producer.control.notices import notify, webhooks
from scorebeat.producer.control.notices.webhooks import Post
from tests.support.cli_fixtures import Cli, score_all
from tests.support.receiver import Receiver, due_now, logged_events, notified, receiver, rows_of

pytestmark = pytest.mark.wide

__all__ = ["notified", "receiver"]


@pytest.fixture
def ended(
    scorebeat: Cli, notified: str, producer: Producer, caplog: pytest.LogCaptureFixture
) -> Iterator[pytest.LogCaptureFixture]:
    """A run ended and its notice is due; events are heard."""
    scorebeat("enqueue", notified)
    score_all(producer, 1)
    with caplog.at_level(logging.INFO, "scorebeat"):
        notify.note_ends(producer)
        yield caplog


def address(engine: Engine, url: str) -> None:
    with engine.begin() as connection:
        changed = "UPDATE scorebeat.jobs SET spec = jsonb_set(spec, '{notify}', to_jsonb(CAST(:url AS text)))"
        connection.execute(text(changed), {"url": url})


async def group(*_: object) -> str | None:
    raise BaseExceptionGroup("of a library", [OSError("no route")])


def unwritable(*_: object) -> bytes:
    raise TypeError("a Decimal cannot be written")


BROKEN: dict[str, Any] = {
    "a proxy that cannot be used": (lambda m, _: m.setenv("ALL_PROXY", "socks5://127.0.0.1:9"), "ImportError"),
    "a proxy that is no URL": (lambda m, _: m.setenv("HTTP_PROXY", "http://[::1"), "InvalidURL"),
    "certificates that are not there": (lambda m, _: m.setenv("SSL_CERT_FILE", "/nowhere.pem"), "FileNotFoundError"),
    "an address that is no URL": (lambda _, e: address(e, "http://[::1"), "InvalidURL"),
    "an address with an odd port": (lambda _, e: address(e, "http://127.0.0.1:99999999/"), ""),
    "an address of another kind": (lambda _, e: address(e, "gopher://127.0.0.1/"), "UnsupportedProtocol"),
    "a name that is too long": (lambda _, e: address(e, f"http://{'a' * 70}.invalid/"), ""),
    "a group of errors": (lambda m, _: m.setattr(webhooks, "_post", group), "OSError: no route"),
    "a body that cannot be written": (lambda m, _: m.setattr(notify, "body", unwritable), "TypeError: a Decimal"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_failed_post_is_an_attempt_and_the_last_ends_the_delivery(
    kind: str, ended: pytest.LogCaptureFixture, producer: Producer, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it, reason = BROKEN[kind]
    break_it(monkeypatch, engine)

    assert notify.notify_once(producer) == 0
    assert not notify.note_ends(producer)  # its pause has begun
    ((_, *first, _),) = rows_of(engine)
    all_but_the_last_were_made(engine)
    due_now(engine)
    assert notify.notify_once(producer) == 0

    ((_, *last, error),) = rows_of(engine)
    assert first == [1, False, False]
    assert last == [notices.MOST_ATTEMPTS, False, True]
    assert reason in str(error)
    failures = logged_events(ended, "notice.failed")
    assert [f["given_up"] for f in failures] == [False, True]
    assert {f["reason"] for f in failures} == {error}


def all_but_the_last_were_made(engine: Engine) -> None:
    with engine.begin() as connection:
        changed = "UPDATE scorebeat.notices SET attempts = :attempts"
        connection.execute(text(changed), {"attempts": notices.MOST_ATTEMPTS - 1})


def test_each_attempt_counts_up_to_the_last(
    ended: pytest.LogCaptureFixture, producer: Producer, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "body", unwritable)

    for _ in range(notices.MOST_ATTEMPTS + 1):
        assert notify.notify_once(producer) == 0
        due_now(engine)

    failures = logged_events(ended, "notice.failed")
    assert [f["given_up"] for f in failures] == [False] * (notices.MOST_ATTEMPTS - 1) + [True]
    assert [f["attempt"] for f in failures] == [*range(1, notices.MOST_ATTEMPTS + 1)]


def test_a_notice_that_cannot_be_made_keeps_no_other_from_being_posted(
    ended: pytest.LogCaptureFixture,
    producer: Producer,
    engine: Engine,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_late(engine)
    body = notify.body

    def of_one(notice: Notice, run: dict[str, Any]) -> bytes:
        return unwritable() if notice.event == "finished" else body(notice, run)

    monkeypatch.setattr(notify, "body", of_one)

    assert notify.notify_once(producer) == 1

    assert receiver.events == ["late"]
    assert [f["about"] for f in logged_events(ended, "notice.failed")] == ["finished"]


def add_late(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO scorebeat.notices (run_id, event, happened_at) VALUES (1, 'late', now())"
        )


@pytest.mark.usefixtures("ended")
def test_a_name_server_that_hangs_holds_a_post_no_longer_than_any_other(
    producer: Producer, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    called, over = threading.Event(), threading.Event()

    def look_up(*_: object, **__: object) -> list[Any]:
        called.set()
        over.wait(20)
        raise socket.gaierror("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(notify, "TIMEOUT", timedelta(seconds=1))
    address(engine, "http://slow.invalid/hook")
    began = time.monotonic()

    assert notify.notify_once(producer) == 0
    took = time.monotonic() - began
    over.set()

    assert called.is_set()
    assert 1 <= took < 5
    assert rows_of(engine) == [("finished", 1, False, False, "no answer within 1 s")]


def test_names_that_are_looked_up_slowly_keep_no_other_post_from_being_made(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    over, look_up = threading.Event(), socket.getaddrinfo

    def slowly(host: str, *rest: Any, **more: Any) -> Any:
        return look_up("127.0.0.1", *rest, **more) if host in ("quick.invalid", b"quick.invalid") else over.wait(20)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    monkeypatch.setenv("NO_PROXY", "*")
    posts = [Post(f"http://slow{n}.invalid/", b"", {}) for n in range(notify.AT_ONCE - 1)]

    url = receiver.url.replace("127.0.0.1", "quick.invalid")

    errors = webhooks.post_all([*posts, Post(url, b'{"event": "late"}', {})], timedelta(seconds=2))
    over.set()

    assert errors == ["no answer within 2 s"] * len(posts) + [None]


@pytest.mark.usefixtures("ended")
def test_while_one_posts_it_no_other_takes_it(engine: Engine) -> None:
    with engine.begin() as connection:
        (taken,) = notices.take_due(connection, 10)
    with engine.begin() as connection:
        again = notices.take_due(connection, 10)
        statement = "SELECT due_at - clock_timestamp() FROM scorebeat.notices"
        claimed = connection.exec_driver_sql(statement).scalar_one()

    assert (taken.attempts, again) == (1, [])
    assert claimed > 5 * (notify.TIMEOUT + webhooks.UNWINDING)


def test_a_notice_whose_senders_all_died_ends_as_a_reported_failure(
    ended: pytest.LogCaptureFixture, producer: Producer, engine: Engine, receiver: Receiver
) -> None:
    for _ in range(notices.MOST_ATTEMPTS):
        due_now(engine)
        with engine.begin() as connection:
            assert notices.take_due(connection, 1)  # and the process dies
    due_now(engine)

    assert notify.notify_once(producer) == 0

    assert rows_of(engine) == [("finished", notices.MOST_ATTEMPTS, False, True, notices.LOST)]
    assert [f["given_up"] for f in logged_events(ended, "notice.failed")] == [True]
    assert receiver.got == []
    due_now(engine)
    assert not notify.note_ends(producer)


@pytest.mark.usefixtures("ended")
def test_an_attempt_that_was_heard_of_late_changes_nothing_unless_it_delivered(engine: Engine) -> None:
    def take() -> Notice:
        due_now(engine)
        with engine.begin() as connection:
            return notices.take_due(connection, 1)[0]

    first, second = take(), take()
    with engine.begin() as connection:
        notices.failed(connection, first, "too late")
    held = rows_of(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE scorebeat.notices SET given_up_at = now()"))
        notices.delivered(connection, second)

    assert held == [("finished", 2, False, False, None)]
    assert rows_of(engine) == [("finished", 2, True, False, None)]


def test_ends_that_are_no_news_any_more_are_counted_in_one_event(
    ended: pytest.LogCaptureFixture, producer: Producer, engine: Engine, receiver: Receiver
) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO scorebeat.runs (job, model, model_version, prediction_set_id, state, spec, created_by,"
            " created_at, finished_at) SELECT job, model, model_version, prediction_set_id, s, spec, 'test',"
            " now() - interval '26 h', now() - interval '25 h' FROM scorebeat.runs,"
            " unnest(ARRAY['succeeded', 'partial', 'cancelled']) AS s"
        )

    for _ in range(2):
        notify.note_ends(producer)
        notify.notify_once(producer)

    ((_, _, content),) = receiver.got
    assert json.loads(content)["id"] == 1
    assert [(f["job"], f["runs"]) for f in logged_events(ended, "notices.left_out")] == [("sums", 2)]
