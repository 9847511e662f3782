"""Messages that are lost, repeated or malformed: they only wake, so nothing of it may change what is scored."""

import base64
import json
import pickle
import uuid
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from scorebeat.broker.app import queue
from scorebeat.core.queues import SCORE
from scorebeat.core.states import RunState
from tests.support.fixtures import wait_for
from tests.support.system import GATED, System, assert_scored_once, own_system

UNKNOWN_BATCH = UNKNOWN_RUN = 999_999_999


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system")) as made:
        yield made


@pytest.fixture(scope="module")
def unplanned(system: System) -> int:
    """A run whose plan was sent and wiped before any worker came."""
    run = system.enqueue(system.job("unplanned"))
    system.flush_broker()
    return run


@pytest.fixture(scope="module")
def worker(system: System, unplanned: int) -> "Popen[bytes]":  # noqa: ARG001 -- it comes after the wipe
    system.programs.control()
    return system.programs.worker("cpu", processes=2)


@pytest.mark.slow
@pytest.mark.usefixtures("worker")
def test_a_plan_that_was_lost_with_the_broker_is_sent_again(system: System, unplanned: int) -> None:
    assert system.until_finished(unplanned) is RunState.SUCCEEDED
    assert system.query("SELECT plan_attempt FROM scorebeat.runs WHERE id = :id", id=unplanned) == [(1,)]


def test_a_message_that_comes_again_changes_nothing(system: System, worker: "Popen[bytes]") -> None:
    job = system.job("repeated", batch_rows=200, where=GATED)
    with system.closed_gate():
        run = system.enqueue(job)
        system.at_the_gate()
        _send_again(system, worker, system.first_batch(run))  # while it runs
        assert system.batches(run)[0][:2] == ("claimed", 1)

    assert system.until_finished(run) is RunState.SUCCEEDED
    _send_again(system, worker, system.first_batch(run))  # when it is done
    assert system.batches(run)[0][:2] == ("committed", 1)
    assert_scored_once(system, job)


def _send_again(system: System, worker: "Popen[bytes]", batch: int) -> None:
    skipped = system.programs.log(worker).count("'skipped'")
    for _ in range(5):
        system.p.app.send_task(SCORE, args=[batch], queue=queue("cpu"))
    wait_for(lambda: system.programs.log(worker).count("'skipped'") == skipped + 5)


@pytest.mark.usefixtures("worker")
def test_a_run_whose_messages_were_all_wiped_completes_with_no_human(system: System) -> None:
    job = system.job("wiped", batch_rows=20, where=GATED)
    with system.closed_gate():
        run = system.enqueue(job)
        system.at_the_gate(2)
        system.until_planned(run)
        assert len(system.batches(run)) == 10
        system.flush_broker()

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert [attempt for _, attempt, _ in system.batches(run)] == [1] * 10
    assert_scored_once(system, job)


def test_malformed_messages_change_nothing_and_leave_the_worker_alive(
    system: System, worker: "Popen[bytes]", tmp_path: Path
) -> None:
    job = system.job("malformed")
    batches_of_before = "SELECT * FROM scorebeat.batches WHERE run_id < :run ORDER BY id"
    before = system.query(batches_of_before, run=UNKNOWN_RUN)
    for args in (
        [],
        ["seventeen"],
        [UNKNOWN_BATCH],
        [10**30],
        [-1],
        [None],
        [[1, 2]],
        [{"id": 1}],
        [1, 2, 3],
        ["1; DROP"],
    ):
        system.p.app.send_task(SCORE, args=args, queue=queue("cpu"))
    system.p.app.send_task("scorebeat.nothing", queue=queue("cpu"))
    for body, kind in MALFORMED:
        _publish(system, body, kind)
    touched = tmp_path / "unpickled"
    _publish(system, pickle.dumps(((_Touch(touched),), {}, {})), "application/x-python-serialize")

    run = system.enqueue(job)  # its messages come after these: when it is scored, these were taken
    assert system.until_finished(run) is RunState.SUCCEEDED
    assert system.query(batches_of_before, run=run) == before
    assert_scored_once(system, job)
    assert not touched.exists()
    assert worker.poll() is None


MALFORMED = [
    (b"not json", "application/json"),
    (b"\xff\xfe", "application/json"),
    (b'"seventeen"', "application/json"),
    (b"[[1]]", "application/json"),
    (b"{}", "application/json"),
    (b"", "application/json"),
    (b"!!python/object/apply:os.system ['true']", "application/x-yaml"),
]


class _Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def _publish(system: System, body: bytes, content_type: str) -> None:
    """Put a message into the queue as kombu writes it, with this body."""
    message = {
        "body": base64.b64encode(body).decode(),
        "content-type": content_type,
        "content-encoding": "binary",
        "headers": {"task": SCORE, "id": str(uuid.uuid4()), "lang": "py"},
        "properties": {
            "delivery_tag": str(uuid.uuid4()),
            "delivery_info": {"exchange": "cpu", "routing_key": "cpu"},
            "body_encoding": "base64",
        },
    }
    system.push("scorebeat:cpu", json.dumps(message))
