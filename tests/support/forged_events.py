"""Events and replies of workers that no worker sends: each is a true one with one thing changed."""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import redis

from tests.support import forged
from tests.support.fixtures import wait_for
from tests.support.system import System

HEARTBEATS = "/0.celeryev/worker.heartbeat"
COMMANDS = "/0.celery.pidbox"


def heard(s: System) -> forged.Message:
    """A worker's heartbeat as it comes."""
    with redis.Redis(unix_socket_path=s.servers.broker_socket) as client, client.pubsub() as listening:
        listening.subscribe(s.key(HEARTBEATS))
        message = wait_for(lambda: listening.get_message(ignore_subscribe_messages=True, timeout=1))
    found: forged.Message = json.loads(message["data"])
    return found


def changed(message: forged.Message, **fields: Any) -> bytes:
    """The event with other fields."""
    event = event_of(message) | fields
    return forged.altered(message, body=forged.encoded(json.dumps(event).encode()))


def event_of(message: forged.Message) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.b64decode(message["body"]))
    return found


def events(true: forged.Message) -> dict[str, bytes]:
    """Good messages that hold no event that Celery could take in."""
    odd: list[tuple[str, Any]] = [
        ("type", None), ("type", ["a"]), ("type", ""), ("clock", 2**63), ("clock", -1), ("clock", "x"), ("clock", None),
        ("clock", True), ("utcoffset", "x"), ("utcoffset", None), ("timestamp", {}), ("timestamp", "now"),
    ]  # fmt: skip
    made = {f"{name} {value!r}": changed(true, **{name: value}) for name, value in odd}
    bodies = (b"17", b"null", b'"worker-heartbeat"', b"[1]", b'[{"type": "worker-heartbeat", "clock": []}]')
    return made | {f"a body {body!r}": forged.altered(true, body=forged.encoded(body)) for body in bodies}


def wrong_replies(true: forged.Message, ticket: str) -> list[bytes]:
    """Messages that are no replies."""
    bodies = (b"[1, 2]", b"17", b"null")
    headers: list[dict[str, Any]] = [{"ticket": ticket, "clock": "x"}, {"ticket": ticket, "expires": "x"}, {}]
    made = [forged.altered(true, headers={"ticket": ticket}, body=forged.encoded(body)) for body in bodies]
    return made + [forged.altered(true, headers=one) for one in headers]


@contextmanager
def replying(s: System, replies: Callable[[str], list[bytes]]) -> Iterator[None]:
    """A client that commands workers gets these replies, made for the command's ticket, before theirs."""
    over = Event()

    def send() -> None:
        with redis.Redis(unix_socket_path=s.servers.broker_socket) as client, client.pubsub() as listening:
            listening.subscribe(s.key(COMMANDS))
            while not over.is_set():
                message = listening.get_message(ignore_subscribe_messages=True, timeout=0.2)
                body = json.loads(base64.b64decode(json.loads(message["data"])["body"])) if message else {}
                if body.get("reply_to"):
                    queue = s.key(f"{body['reply_to']['routing_key']}.reply.celery.pidbox")
                    client.rpush(queue, *replies(body["ticket"]))

    sender = Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        over.set()
        sender.join()
