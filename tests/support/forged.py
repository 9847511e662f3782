"""Messages that nobody of ours sends: each is a true one of Celery's with one thing changed."""

import base64
import bz2
import json
import pickle
from pathlib import Path
from typing import Any

import redis

from scorebeat.broker.app import queue
from scorebeat.core.queues import CONTROL, FOLLOW, KEYS, NOTIFY, PLAN, QUALITY, SCORE, TICK
from tests.support.system import System

PAYLOAD = "a-payload-that-no-log-shows-" * 40
HALF = "\ud800"
"""Half a character: JSON may hold it, and nobody can write it."""
ELSEWHERE = "elsewhere"
"""A queue that nobody serves."""

FOLLOWS: dict[str, Any] = {
    "task": SCORE,
    "args": [1],
    "kwargs": {},
    "options": {},
    "subtask_type": None,
    "immutable": True,
}
"""A task as Celery names one that is to be sent when another is done."""

Message = dict[str, Any]


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def true_message(s: System, task: str, *args: object) -> Message:
    """The broker's message of a task that was sent as we send it."""
    s.p.app.send_task(task, args=args, queue=queue(ELSEWHERE))
    with redis.Redis(unix_socket_path=s.servers.broker_socket) as client:
        raw = client.rpop(s.key(ELSEWHERE))
    assert isinstance(raw, bytes)
    found: Message = json.loads(raw)
    return found


def body(args: object, named: object = None, **embedded: object) -> str:
    """A message's body as it travels."""
    return encoded(json.dumps([args, named or {}, embedded]).encode())


def encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def altered(message: Message, **parts: Any) -> bytes:
    """With these parts instead of its own; `headers` and `properties` are put over its own, None takes one away."""
    made = json.loads(json.dumps(message))
    for name, part in parts.items():
        key = name.replace("content_", "content-")
        made[key] = made[key] | part if isinstance(part, dict) else part
    return json.dumps({key: part for key, part in made.items() if part is not None}).encode()


def bomb() -> bytes:
    """256 MiB of blanks and an empty call, packed into some hundred bytes."""
    packer = bz2.BZ2Compressor()
    parts = [packer.compress(b" " * 2**20) for _ in range(256)]
    return b"".join([*parts, packer.compress(b"[[1], {}, {}]"), packer.flush()])


def envelopes(score: Message) -> dict[str, bytes]:
    """Texts that are no messages at all, or that kombu cannot open."""
    return {
        "no JSON": PAYLOAD.encode(),
        "no text": b"\xff\xfe" + PAYLOAD.encode(),
        "nothing": b"",
        "UTF-16": altered(score).decode().encode("utf-16"),
        "UTF-32": altered(score).decode().encode("utf-32"),
        "a byte order mark": altered(score).decode().encode("utf-8-sig"),
        "a number": b"17",
        "a list": b"[1, 2]",
        "depth": b"[" * 60_000,
        "cut off": altered(score)[:-40],
        "no headers": altered(score, headers=None),
        "headers that are a list": altered(score, headers=[PAYLOAD]),
        "no properties": altered(score, properties=None),
        "a delivery tag that is a list": altered(score, properties={"delivery_tag": [1]}),
        "half a character as delivery tag": altered(score, properties={"delivery_tag": HALF}),
        "half a character as routing key": altered(
            score, properties={"delivery_info": {"exchange": HALF, "routing_key": HALF}}
        ),
        "half a character as id": altered(score, headers={"id": HALF}),
        "a priority that is an object": altered(score, properties={"priority": {"a": 1}}),
        "a reply to an object": altered(score, properties={"reply_to": {"a": 1}}),
        "a number of 4,300 digits": altered(score, headers={"clock": int("9" * 4300)}),
        "no number": altered(score, headers={"x": float("nan")}),
        "no delivery information": altered(score, properties={"delivery_info": None}),
        "a body in another encoding": altered(score, properties={"body_encoding": "rot13"}),
        "wrong base64": altered(score, body="!" + PAYLOAD),
        "no body": altered(score, body=None),
        "a body that is a number": altered(score, body=17),
        "a body that is no JSON": altered(score, body=encoded(PAYLOAD.encode())),
        "50 MB": b"x" * 50_000_000,
        "50 MB of a body": altered(score, body=encoded(b"[[" + b"1," * 18_000_000 + b"1],{},{}]")),
        "a bomb": altered(score, body=encoded(bomb()), headers={"compression": "application/x-bz2"}),
        "a type of kombu's": altered(score, body=body([{"__type__": "uuid", "__value__": "no"}])),
        "another type in a header": altered(score, headers={"x": {"__type__": "uuid", "__value__": "no"}}),
    }


def code(score: Message, touched: Path) -> dict[str, bytes]:
    """Messages that would run code if they were opened."""
    pickled = encoded(pickle.dumps(((Touch(touched),), {}, {})))
    kind = "application/x-python-serialize"
    return {
        "pickle": altered(score, body=pickled, content_type=kind, content_encoding="binary"),
        "pickle as text": altered(score, body=pickled, content_type=kind),
        "yaml": altered(score, body=encoded(b"!!python/object/apply:os.system ['true']"),
                        content_type="application/x-yaml"),
        "raw bytes": altered(score, content_type="application/data", content_encoding="binary"),
        "a task of Celery's own": altered(score, headers={"task": "celery.map"}, body=body([FOLLOWS, [[1]]])),
        "a function": altered(score, headers={"task": "os.system"}, body=body(["true"])),
    }  # fmt: skip


def calls(score: Message) -> dict[str, bytes]:
    """A call of our task, with what Celery would obey and we never send."""
    headers: dict[str, dict[str, Any]] = {
        "no task": {"task": None},
        "a task that is a list": {"task": [SCORE]},
        "no id": {"id": None},
        "an id that is an object": {"id": {"a": 1}},
        "another name": {"shadow": PLAN},
        "a time in years": {"eta": "2199-01-01T00:00:00+00:00"},
        "an eta that is none": {"eta": "soon"},
        "an end that is none": {"expires": "soon"},
        "an end that is a number": {"expires": 3},
        "retries": {"retries": 10**9},
        "time limits that are a number": {"timelimit": 3},
        "a group": {"group": "g"},
        "a repetition that is a list": {"argsrepr": [PAYLOAD]},
        "tasks after it, in a header": {"callbacks": [FOLLOWS]},
        "tasks after its failure, in a header": {"errbacks": [FOLLOWS]},
        "a chain in a header": {"chain": [FOLLOWS]},
        "a chain that is a number": {"chain": 17},
        "children": {"children": [3]},
        "a method of Celery's": {"update": 3},
        "another method of Celery's": {"get": 4},
        "a file for the log": {"logfile": "x"},
        "an end before all": {"expires": "0001-01-01T00:00:00+14:00"},
    }
    bodies: dict[str, str] = {
        "tasks after it": body([1], callbacks=[FOLLOWS]),
        "tasks after its failure": body([1], errbacks=[FOLLOWS]),
        "a chain": body([1], chain=[FOLLOWS]),
        "a chord": body([1], chord=FOLLOWS),
        "an object": encoded(b"{}"),
        "a text": encoded(b'"seventeen"'),
        "too short": encoded(b"[[1]]"),
        "a method, after it": body([1], get=None),
        "the first protocol": encoded(json.dumps({"task": SCORE, "id": "1", "args": [1], "kwargs": {}}).encode()),
    }
    made = {name: altered(score, headers=changed) for name, changed in headers.items()}
    return made | {name: altered(score, body=changed) for name, changed in bodies.items()}


def arguments(score: Message) -> dict[str, bytes]:
    """Each task of ours with arguments that are not its own."""
    wrong: dict[str, list[list[object]]] = {
        SCORE: [[], ["17"], [0], [-1], [2**63], [10**30], [True], [None], [1.5], [[1, 2]], [{"id": 1}],
                ["1; DROP TABLE items"], [PAYLOAD], [3, 1], [1, {"since": "a newer release"}]],
        PLAN: [[], ["1"], [-1], [True], [1, 2]],
        TICK: [[], [1], ["no such name; --"], ["a" * 41], ["iris", "now"]],
        CONTROL: [[1], [[]]],
        NOTIFY: [["http://example.org/"]],
        FOLLOW: [[1], ["iris"]],
        KEYS: [[1], ["iris"]],
        QUALITY: [[1], ["iris"]],
    }  # fmt: skip
    made = {
        f"{task}{args!r:.60}": altered(score, headers={"task": task}, body=body(args))
        for task, each in wrong.items()
        for args in each
    }
    named = {f"{task} with names": altered(score, headers={"task": task}, body=body([1], {"x": 1})) for task in wrong}
    return made | named


def unknown(score: Message) -> dict[str, bytes]:
    """Good messages about what is not there, or not due: each is begun, does nothing, and sets itself no limit."""
    wanted: list[tuple[str, list[object]]] = [
        (SCORE, [999_999_999]), (SCORE, [2**63 - 1]), (PLAN, [999_999_999]), (TICK, ["nobody"]), (CONTROL, []),
        (NOTIFY, []), (FOLLOW, []), (KEYS, []), (QUALITY, []),
    ]  # fmt: skip
    headers: list[dict[str, object]] = [{"of_a_newer_celery": "x"}, {"timelimit": [0.001, 0.001]}]
    return {
        f"{task}{args} {more}": altered(score, headers={"task": task, **more}, body=body(args))
        for task, args in wanted
        for more in headers
    }


def commands(template: Message) -> dict[str, bytes]:
    """Broadcasts, made from a true command, of commands or arguments that no worker takes."""
    bodies: dict[str, Any] = {
        f"{name} {arguments!r:.60}": {"method": name, "arguments": arguments} for name, arguments in _WRONG_COMMANDS
    } | {
        "a reply to a text": {"reply_to": "text"},
        "a reply to no name": {"reply_to": {"exchange": {"a": 1}, "routing_key": "x"}},
        "to a number": {"destination": 17},
        "to a pattern": {"pattern": "(a+)+$", "matcher": "pcre"},
        "a ticket that is an object": {"ticket": {"a": 1}, "reply_to": {"exchange": "x", "routing_key": "x"}},
    }
    true = json.loads(base64.b64decode(template["body"]))
    made = {name: altered(template, body=encoded(json.dumps(true | parts).encode())) for name, parts in bodies.items()}
    made |= {f"a body {raw!r}": altered(template, body=encoded(raw)) for raw in (b"17", b'"ping"', b"null", b"[1]")}
    return made | {
        "a late clock": altered(template, headers={"clock": 2**63}),
        "a clock of 4,300 digits": altered(template, headers={"clock": int("9" * 4300)}),
        "a clock that is a text": altered(template, headers={"clock": "x"}),
    }


_WRONG_COMMANDS: list[tuple[Any, Any]] = [
    ("add_consumer", {"queue": HALF}), ("add_consumer", {"queue": {"a": 1}}), ("add_consumer", {}),
    ("add_consumer", {"queue": "x", "exchange_type": "nope"}), ("cancel_consumer", {"queue": {"a": 1}}),
    ("add_consumer", {"queue": "y", "exchange": "y", "exchange_type": "topic", "routing_key": "("}),
    ("autoscale", {"max": "x", "min": 1}), ("pool_grow", {"n": "x"}), ("pool_grow", {"n": 10**6}),
    ("pool_shrink", {"n": -1}), ("ping", [1]), ("ping", {"x": 1}), ("revoke", {"task_id": "x", "signal": "nope"}),
    ("terminate", {}), ("query_task", {"ids": 3}), ("hello", {"from_node": "x"}),
    ("add_consumer", {"queue": "unacked"}), ("registered", {"taskinfoitems": ["app"]}), ("objgraph", {}),
    ("memdump", {}), (None, {}), (["ping"], {}), (HALF, {}),
]  # fmt: skip
