"""Events and replies of workers that no worker sends: each is a true one with one thing changed."""

import base64
import json
import time
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


def send_event(s: System, sender: str, kind: str, **fields: Any) -> None:
    """An event as the worker `sender` sends it, with these fields."""
    event = {"type": kind, "hostname": sender, "utcoffset": 0, "pid": 1, "clock": 5, "timestamp": time.time(), **fields}
    key = kind.replace("-", ".")
    message = {
        "body": base64.b64encode(json.dumps(event).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"hostname": sender},
        "properties": {
            "delivery_mode": 1,
            "delivery_info": {"exchange": "celeryev", "routing_key": key},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": "8a1b0bc6-3aee-4f2f-9a6c-2e8b5f0e8d11",
        },
    }
    with redis.Redis(unix_socket_path=s.servers.broker_socket) as client:
        channel = s.key(f"/0.celeryev/{key}")
        wait_for(lambda: client.publish(channel, json.dumps(message)) > 0)
