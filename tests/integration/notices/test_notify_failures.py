"""A receiver that is slow, fails, closes or redirects gets the post again, and never holds up the ledger."""

import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler

import pytest
from sqlalchemy import Engine, text

from scorebeat.producer.context import Producer
from scorebeat.producer.control import control_round
from scorebeat.producer.control.notices import notify
from tests.support.cli_fixtures import Cli, score_all
from tests.support.receiver import Receiver, due_now, notified, receiver, rows_of, status

pytestmark = pytest.mark.wide

__all__ = ["notified", "receiver"]


def hang(handler: BaseHTTPRequestHandler) -> None:
    """Sends a byte now and then: each read ends in time, the whole never would."""
    handler.connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for _ in range(100):
        time.sleep(0.1)
        handler.connection.sendall(b"X: y\r\n")


def endless(handler: BaseHTTPRequestHandler) -> None:
    status(handler, 500)
    for _ in range(10_000):
        handler.wfile.write(b"x" * 100_000)


UNWILLING = {
    "hangs": (hang, "no answer within"),
    "fails": (lambda h: status(h, 500), "the receiver answered 500"),
    "fails at length": (endless, "the receiver answered 500"),
    "closes": (lambda h: h.connection.shutdown(2), "RemoteProtocolError"),
    "redirects": (lambda h: status(h, 302, Location="/elsewhere"), "the receiver answered 302"),
}


@pytest.mark.parametrize("kind", UNWILLING)
def test_a_notice_that_was_not_accepted_is_sent_again_later_and_delays_nothing(
    kind: str,
    scorebeat: Cli,
    notified: str,
    producer: Producer,
    engine: Engine,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(notify, "TIMEOUT", timedelta(seconds=1))
    receiver.respond, reason = UNWILLING[kind]
    scorebeat("enqueue", notified)
    score_all(producer, 1)
    began = time.monotonic()
    control_round.run_once(producer)
    assert time.monotonic() - began < 1  # the tick only makes the notice

    assert notify.notify_once(producer) == 0
    assert time.monotonic() - began < 5
    assert notify.notify_once(producer) == 0  # not due yet: no second request
    receiver.respond = lambda h: status(h, 200)
    tried = rows_of(engine)
    due_now(engine)
    assert notify.notify_once(producer) == 1

    ((_, attempts, is_delivered, _, error),) = tried
    assert (attempts, is_delivered) == (1, False)
    assert reason in str(error)
    assert [path for path, _, _ in receiver.got] == ["/hook", "/hook"]
    assert len({headers["x-scorebeat-notice"] for _, headers, _ in receiver.got}) == 1
    assert rows_of(engine) == [("finished", 2, True, False, None)]


def test_a_slow_receiver_does_not_hold_up_another(
    scorebeat: Cli, notified: str, producer: Producer, engine: Engine, receiver: Receiver
) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE scorebeat.jobs SET spec = spec || '{\"notify\": null}'"))
    scorebeat("enqueue", notified)
    score_all(producer, 1)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO scorebeat.notices (run_id, event, happened_at)"
                " SELECT 1, 'finished', now() - n * interval '1 s' FROM generate_series(1, 10) n"
            )
        )
        connection.execute(
            text("UPDATE scorebeat.jobs SET spec = jsonb_set(spec, '{notify}', to_jsonb(CAST(:url AS text)))"),
            {"url": receiver.url},
        )

    def slowly(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.5)
        status(handler, 200)

    receiver.respond = slowly
    began = time.monotonic()

    assert notify.notify_once(producer) == 10

    assert time.monotonic() - began < 3


def test_pauses_grow_and_the_last_attempt_ends_the_delivery(
    scorebeat: Cli, notified: str, producer: Producer, engine: Engine, receiver: Receiver
) -> None:
    receiver.respond = lambda h: status(h, 503)
    scorebeat("enqueue", notified)
    score_all(producer, 1)
    notify.note_ends(producer)
    pauses = []
    for _ in range(40):
        due_now(engine)
        notify.notify_once(producer)
        with engine.connect() as connection:
            statement = "SELECT extract(epoch FROM due_at - now())::float8 FROM scorebeat.notices"
            pauses.append(connection.execute(text(statement)).scalar_one())

    ((_, attempts, is_delivered, is_given_up, error),) = rows_of(engine)
    assert (attempts, is_delivered, is_given_up, error) == (24, False, True, "the receiver answered 503")
    assert [round(p / 10) * 10 for p in pauses[:4]] == [10, 20, 40, 80]
    assert max(pauses) <= 3600
    assert len(receiver.got) == 24


def test_a_sender_that_dies_before_it_recorded_a_delivery_repeats_it_with_its_id(
    scorebeat: Cli,
    notified: str,
    producer: Producer,
    engine: Engine,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scorebeat("enqueue", notified)
    score_all(producer, 1)
    notify.note_ends(producer)
    with monkeypatch.context() as dying:
        dying.setattr(notify, "_settle", lambda *_: pytest.fail("died"))
        with pytest.raises(pytest.fail.Exception, match="died"):
            notify.notify_once(producer)
    assert not notify.note_ends(producer)  # its pause has begun
    due_now(engine)

    assert notify.notify_once(producer) == 1

    assert len(receiver.got) == 2
    assert len({headers["x-scorebeat-notice"] for _, headers, _ in receiver.got}) == 1
