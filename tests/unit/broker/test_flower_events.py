"""Flower keeps only checked parts of an event, which anybody with access to the broker may have sent."""

from typing import Any

import pytest

from scorebeat.broker.guard.flower_events import plain, shown
from scorebeat.core.queues import SCORE
from scorebeat.monitor.tasks import batch_of

HEARTBEAT: dict[str, Any] = {
    "type": "worker-heartbeat", "hostname": "cpu@host", "utcoffset": 0, "pid": 17, "clock": 3,
    "timestamp": 1795322000.5, "local_received": 1795322000.6, "freq": 2.0, "active": 1, "processed": 4,
    "loadavg": [0.1, 0.2, 0.3], "sw_ident": "py-celery", "sw_ver": "5.7.0", "sw_sys": "Linux",
}  # fmt: skip
RECEIVED: dict[str, Any] = {
    "type": "task-received", "hostname": "cpu@host", "utcoffset": 0, "pid": 17, "clock": 3, "timestamp": 1795322000.5,
    "local_received": 1795322000.6, "uuid": "5d1b0bc6", "name": SCORE, "args": "(1,)", "kwargs": "{}",
    "root_id": "5d1b0bc6", "parent_id": None, "retries": 0, "eta": None, "expires": None,
}  # fmt: skip


@pytest.mark.parametrize("event", [HEARTBEAT, RECEIVED])
def test_an_event_as_a_worker_sends_it_is_kept_whole(event: dict[str, Any]) -> None:
    assert plain(event) == {name: value for name, value in event.items() if value is not None}


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "task-<b>"}, {"type": ["x"]}, {"hostname": {"a": 1}}, {"hostname": "\ud800"}, {"timestamp": None},
        {"timestamp": "x"}, {"timestamp": 1e300}, {"timestamp": float("nan")}, {"uuid": ["x"]}, {"uuid": None},
    ],
)  # fmt: skip
def test_an_event_that_celery_does_not_send_is_left_out(changes: dict[str, Any]) -> None:
    assert plain(RECEIVED | changes) is None
    assert plain([RECEIVED]) is None


def test_a_field_is_a_text_or_a_number_whatever_was_sent() -> None:
    odd = {"args": ["<b>"], "kwargs": {"a": 1}, "retries": "<b>", "runtime": [1], "_fields": ["x"], "name": "\ud800"}

    kept = plain(RECEIVED | odd)

    assert kept is not None
    assert (kept["args"], kept["kwargs"], kept["name"]) == ("['<b>']", "{'a': 1}", "?")
    assert kept.keys().isdisjoint({"_fields", "retries", "runtime"})
    assert all(isinstance(value, str | int | float) for value in kept.values())
    assert plain(HEARTBEAT | {"loadavg": ["<b>"], "freq": "x"}) == without(HEARTBEAT, "loadavg", "freq")


def without(event: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name not in names}


def test_a_page_shows_only_texts_and_numbers() -> None:
    assert [shown(value) for value in (None, True, 1.5, "a", ["<b>"], 10**400)] == [
        None, True, 1.5, "a", "['<b>']", str(10**400),
    ]  # fmt: skip


def test_a_list_for_arguments_names_no_batch() -> None:
    assert batch_of(SCORE, "(17,)") == 17
    assert batch_of(SCORE, [17]) is None
    assert batch_of([SCORE], "(17,)") is None
