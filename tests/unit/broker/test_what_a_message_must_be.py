"""The checks of a worker on the broker's messages, headers and commands, without a worker."""

import base64
import json
from typing import Any

import pytest
from kombu.message import Message

from scorebeat.broker.guard.commands import KEPT, MOST_PROCESSES, command_fault
from scorebeat.broker.guard.envelope import LONGEST, envelope_fault, keep_ours, opened, task_fault
from scorebeat.core.queues import SCORE

HALF = "\ud800"
"""Half a character: JSON may hold it, and nobody can write it."""
FOLLOWS = {"task": SCORE, "args": [1], "kwargs": {}, "options": {}}
AN_ID = "5d1b0bc6-3aee-4f2f-9a6c-2e8b5f0e8d11"
HEADERS: dict[str, Any] = {
    "lang": "py", "task": SCORE, "id": AN_ID, "shadow": None, "eta": None, "expires": None, "group": None,
    "group_index": None, "retries": 0, "timelimit": [600, 540], "root_id": AN_ID, "parent_id": None, "argsrepr": "(1,)",
    "kwargsrepr": "{}", "origin": "gen1@höst", "ignore_result": True, "replaced_task_nesting": 0,
    "stamped_headers": None, "stamps": {},
}  # fmt: skip
"""As Celery 5.7 sends them."""
CALL: list[Any] = [[1], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]


def raw(body: Any, headers: dict[str, Any] | None = None, **properties: Any) -> bytes:
    """A message as it lies in the broker."""
    message = {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers or {},
        "properties": {
            "correlation_id": AN_ID,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "cpu", "routing_key": "cpu"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": AN_ID,
            **properties,
        },
    }
    return json.dumps(message).encode()


def called(body: list[Any], **headers: Any) -> Message:
    return Message(
        body=json.dumps(body), content_type="application/json", content_encoding="utf-8", headers=HEADERS | headers
    )


def command(name: Any, arguments: Any, headers: dict[str, Any] | None = None, **parts: Any) -> bytes:
    """A broadcast as Celery sends it."""
    body = {"method": name, "arguments": arguments, "destination": None, "pattern": None, "matcher": None, **parts}
    return raw(body, headers or {"clock": 3, "expires": 1795322000.5})


def test_a_message_as_celery_sends_it_has_no_fault_and_keeps_only_what_is_ours() -> None:
    message = called(CALL)

    assert envelope_fault(raw(CALL, HEADERS)) is None
    assert task_fault(message, {SCORE}) is None
    keep_ours(message)
    assert set(message.headers) == {
        "lang", "task", "id", "expires", "root_id", "parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result",
    }  # fmt: skip


def test_a_message_that_claims_to_be_compressed_is_not_opened() -> None:
    assert envelope_fault(raw(CALL, HEADERS | {"compression": "application/x-bz2"})) == "it is compressed"


@pytest.mark.parametrize(
    "properties",
    [
        {"delivery_tag": HALF}, {"delivery_tag": "a\nb"}, {"delivery_tag": ""}, {"delivery_tag": None},
        {"delivery_info": {"exchange": HALF, "routing_key": "cpu"}},
        {"delivery_info": {"exchange": "cpu", "routing_key": HALF}},
        {"reply_to": {"a": 1}}, {"correlation_id": [1]}, {"correlation_id": HALF}, {"priority": {"a": 1}},
        {"priority": float("inf")}, {"anything": int("9" * 4000)}, {"anything": HALF}, {"anything": float("nan")},
    ],
)  # fmt: skip
def test_a_message_that_nobody_could_write_again_is_refused_unopened(properties: dict[str, Any]) -> None:
    assert envelope_fault(raw(CALL, HEADERS, **properties)) is not None


@pytest.mark.parametrize("body", [[[HALF], {}, {}], [[int("9" * 4299)], {}, {}], [[1e999], {}, {}]])
def test_a_body_that_nobody_could_write_again_is_refused_unopened(body: Any) -> None:
    assert envelope_fault(raw(body, HEADERS)) is not None


def test_half_a_character_is_found_in_bytes_too() -> None:
    spoilt = raw(CALL, HEADERS | {"x": "HALF"}).replace(b"HALF", b"\xed\xa0\x80")

    assert envelope_fault(spoilt) is not None
    assert envelope_fault(b" " * (LONGEST + 1)) is not None


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("callbacks", [FOLLOWS]), ("errbacks", [FOLLOWS]), ("chain", [FOLLOWS]), ("chord", FOLLOWS), ("chain", 17),
        ("group", "g"), ("group_index", 1), ("children", [3]), ("_children", [3]), ("update", 3), ("get", 4),
        ("clear", 1), ("called_directly", True), ("is_eager", True), ("logfile", "x"), ("loglevel", "x"),
        ("headers", 3), ("hostname", "x"), ("delivery_info", {"a": 1}), ("properties", 1), ("reply_to", "x"),
        ("correlation_id", "x"), ("taskset", "x"), ("time_limit", 1), ("soft_time_limit", 1), ("utc", True),
        ("_protected", 1), ("eta", "2199-01-01T00:00:00"), ("retries", 3), ("stamps", {"a": 1}), ("shadow", "x"),
        ("__init__", "x"), ("ignore_result", "no"), ("lang", ["py"]),
        ("id", HALF), ("root_id", HALF), ("argsrepr", HALF), ("argsrepr", "x" * 2000), ("kwargsrepr", [1]),
        ("expires", "0001-01-01T00:00:00"), ("expires", "9999-12-31T23:59:59-14:00"), ("expires", "2026-W01-1"),
        ("expires", "2026-01-01x00:00:00.123456789"), ("expires", "2026-13-01T00:00:00"), ("expires", 3),
    ],
)  # fmt: skip
def test_a_header_that_celery_would_obey_and_we_never_send_is_refused(header: str, value: Any) -> None:
    assert task_fault(called(CALL, **{header: value}), {SCORE}) is not None


def test_headers_of_a_newer_release_and_the_limits_of_another_host_are_left_out() -> None:
    message = called(CALL, of_a_newer_celery="x", timelimit=[0.001, 0.001], args=3, __class__="x")

    assert task_fault(message, {SCORE}) is None
    keep_ours(message)
    assert message.headers.keys().isdisjoint({"of_a_newer_celery", "timelimit", "args", "__class__"})


@pytest.mark.parametrize("after", [{"callbacks": [FOLLOWS]}, {"get": None}, {"hostname": ""}, {"id": None}])
def test_the_options_after_a_task_name_nothing(after: dict[str, Any]) -> None:
    assert task_fault(called([[1], {}, after]), {SCORE}) is not None


GOOD: list[tuple[str, dict[str, Any]]] = [
    ("ping", {}), ("active", {"safe": True}), ("active", {"safe": None}), ("conf", {"with_defaults": False}),
    ("registered", {"taskinfoitems": []}), ("query_task", {"ids": [AN_ID]}), ("stats", {}), ("report", {}),
    ("add_consumer", {"queue": "cpu-2"}), ("cancel_consumer", {"queue": "cpu"}), ("autoscale", {"max": 2, "min": 1}),
    ("add_consumer", {"queue": "cpu", "exchange": None, "exchange_type": "direct", "routing_key": None}),
    ("pool_grow", {"n": 1}), ("pool_shrink", {"n": 1}), ("shutdown", {}),
    ("revoke", {"task_id": AN_ID, "terminate": True, "signal": "SIGTERM"}),
    ("terminate", {"signal": "KILL", "task_id": [AN_ID]}),
    ("revoke", {"task_id": AN_ID, "terminate": 1, "signal": "SIGTERM"}),  # as Flower sends it
    ("revoke", {"task_id": AN_ID, "terminate": 0, "signal": "SIGTERM"}),
]  # fmt: skip
BAD: list[tuple[Any, Any]] = [
    ("add_consumer", {"queue": HALF}), ("add_consumer", {"queue": {"a": 1}}), ("add_consumer", {}),
    ("add_consumer", {"queue": "x", "exchange_type": "nope"}),
    ("add_consumer", {"queue": "x", "exchange_type": "topic"}),
    ("add_consumer", {"queue": "x", "exchange": "y"}), ("add_consumer", {"queue": "x", "routing_key": "("}),
    ("add_consumer", {"queue": "x", "max_length": 1}), ("add_consumer", {"queue": "a" * 64}),
    ("add_consumer", {"queue": "celery.pidbox"}), ("cancel_consumer", {"queue": {"a": 1}}), ("cancel_consumer", {}),
    ("autoscale", {"max": "x", "min": 1}), ("autoscale", {"max": 10**6, "min": 1}), ("pool_grow", {"n": "x"}),
    ("pool_grow", {"n": MOST_PROCESSES + 1}), ("pool_grow", {"n": -1}), ("pool_grow", {"n": True}),
    ("pool_shrink", {"n": 10**6}), ("active", {"safe": 3}), ("ping", {"x": 1}), ("ping", [1]),
    ("add_consumer", {"queue": "x", "exchange": []}), ("shutdown", {"msg": "x"}),
    ("registered", {"taskinfoitems": ["app"]}), ("hello", {"from_node": "a"}),
    ("add_consumer", {"queue": "unacked"}), ("revoke", {"task_id": "x", "terminate": 2}),
    ("revoke", {"task_id": {"a": 1}}), ("revoke", {}),
    ("revoke", {"task_id": "x", "signal": "nope"}), ("terminate", {"task_id": "x"}), ("query_task", {"ids": 3}),
    (None, {}), (["ping"], {}), (HALF, {}), ("", {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments"), GOOD)
def test_each_command_that_is_kept_passes_as_celery_sends_it(name: str, arguments: dict[str, Any]) -> None:
    reply_to = {"exchange": "reply.celery.pidbox", "routing_key": AN_ID}

    assert envelope_fault(command(name, arguments)) is None
    assert command_fault(*opened(command(name, arguments))) is None
    addressed = command(name, arguments, destination=["cpu@host"], reply_to=reply_to, ticket=AN_ID)
    assert command_fault(*opened(addressed)) is None


def test_each_command_that_is_kept_is_among_those_or_takes_nothing() -> None:
    assert {name for name in KEPT if command_fault(*opened(command(name, {})))} <= {name for name, _ in GOOD}


@pytest.mark.parametrize(("name", "arguments"), BAD)
def test_a_command_with_anything_else_is_refused(name: Any, arguments: Any) -> None:
    made = command(name, arguments)

    assert envelope_fault(made) or command_fault(*opened(made))


@pytest.mark.parametrize(
    "parts",
    [
        {"reply_to": "text"}, {"reply_to": {"exchange": 1, "routing_key": "x"}}, {"reply_to": {}}, {"destination": 17},
        {"destination": "cpu@host"}, {"destination": [1]}, {"pattern": "(a+)+$", "matcher": "pcre"},
        {"ticket": {"a": 1}},
        {"more": 1}, {"headers": {"clock": 2**63}}, {"headers": {"clock": "x"}}, {"headers": {"clock": -1}},
        {"headers": {"clock": int("9" * 4300)}}, {"headers": {"expires": "x"}},
    ],
)  # fmt: skip
def test_a_command_addressed_or_timed_in_another_way_is_refused(parts: dict[str, Any]) -> None:
    made = command("ping", {}, **parts)

    assert envelope_fault(made) or command_fault(*opened(made))


@pytest.mark.parametrize("body", [None, 17, "ping", ["ping"], True])
def test_a_command_that_is_no_object_is_refused(body: Any) -> None:
    assert command_fault(*opened(raw(body))) is not None
