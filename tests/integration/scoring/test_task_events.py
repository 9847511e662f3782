"""Events of tasks, by which Flower shows what runs: many travel in one message, and none is left behind."""

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from celery.events import EventReceiver

from scorebeat.core.queues import SCORE
from scorebeat.core.states import RunState
from tests.support.fixtures import wait_for
from tests.support.proxy import proxy_to
from tests.support.system import GATED, System, own_system

BATCHES = 40


class Messages(EventReceiver):  # type: ignore[misc]  # Celery publishes no types
    """Keeps what comes, message by message."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.seen: list[list[dict[str, Any]]] = []

    def _receive(self, body: Any, *_: Any) -> None:
        self.seen.append(body if isinstance(body, list) else [body])

    @property
    def of_batches(self) -> Counter[str]:
        """Events by type, of tasks that score."""
        events = [event for message in self.seen for event in message if event["type"].startswith("task-")]
        return Counter(event["type"] for event in events if event["uuid"] in self.tasks)

    @property
    def tasks(self) -> set[str]:
        """Those that score."""
        return {event["uuid"] for message in self.seen for event in message if event.get("name") == SCORE}

    def have_ended(self, count: int) -> bool:
        """Whether so many of them were a success."""
        return len(self.of_type("task-succeeded") & self.tasks) >= count

    def of_type(self, kind: str) -> set[str]:
        """Tasks with such an event."""
        return {event["uuid"] for message in self.seen for event in message if event["type"] == kind}


@contextmanager
def listening(system: System) -> Iterator[Messages]:
    with system.p.app.connection_for_read() as connection:
        receiver = Messages(connection, app=system.p.app)
        ended = threading.Event()

        def listen() -> None:
            with receiver.consumer_context(wakeup=False) as (channel, *_):
                while not ended.is_set():
                    try:
                        channel.connection.client.drain_events(timeout=0.2)
                    except TimeoutError:
                        continue

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield receiver
        finally:
            ended.set()
            thread.join(10)


def test_events_of_many_tasks_travel_together(tmp_path_factory: pytest.TempPathFactory) -> None:
    with own_system(tmp_path_factory.mktemp("system")) as system:
        system.programs.control()
        worker = system.programs.worker("cpu", name="scores")
        job = system.job("together", rows=1_000, batch_rows=1_000 // BATCHES)
        with listening(system) as receiver:
            assert system.until_finished(system.enqueue(job)) is RunState.SUCCEEDED
            worker.send_signal(signal.SIGTERM)
            worker.wait(30)
            wait_for(lambda: receiver.of_batches["task-succeeded"] == BATCHES)

    of_worker = {kind: count for kind, count in receiver.of_batches.items() if kind != "task-sent"}
    assert of_worker == dict.fromkeys(("task-received", "task-started", "task-succeeded"), BATCHES)
    messages = [m for m in receiver.seen if m[0]["type"] != "task-sent" and m[0].get("uuid") in receiver.tasks]
    assert len(messages) <= 1.5 * BATCHES, "of three events at least two travel together, on however slow a machine"


@pytest.mark.slow
def test_a_task_that_ended_when_the_broker_was_lost_is_not_shown_as_running(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with own_system(tmp_path_factory.mktemp("system")) as system, proxy_to(system.servers.broker_socket) as broker:
        system.programs.control()
        through = f"redis://127.0.0.1:{broker.port}/0"
        system.programs.worker("cpu", name="scores", SCOREBEAT_BROKER_URL=through)
        job = system.job("cut", rows=2_000, batch_rows=2_000 // (2 * BATCHES))
        with listening(system) as receiver:
            run = system.enqueue(job)
            for ended in (10, 25, 40, 55, 70):
                wait_for(partial(receiver.have_ended, ended))
                broker.drop()
            assert system.until_finished(run) is RunState.SUCCEEDED
            wait_for(lambda: receiver.of_type("task-started") <= receiver.of_type("task-succeeded"))


@pytest.mark.slow
def test_a_task_that_a_stopping_worker_gives_up_is_shown_as_revoked(tmp_path_factory: pytest.TempPathFactory) -> None:
    with own_system(tmp_path_factory.mktemp("system")) as system:
        system.programs.control()
        worker = system.programs.worker("cpu", name="stops")
        job = system.job("given_up", batch_rows=200, where=GATED)
        with listening(system) as receiver, system.closed_gate():
            system.enqueue(job)
            wait_for(system.at_the_gate)
            worker.send_signal(signal.SIGQUIT)
            wait_for(lambda: "worker.drains" in system.programs.log(worker))
            worker.send_signal(signal.SIGQUIT)
            worker.wait(30)
            wait_for(lambda: receiver.of_type("task-revoked"))

    assert receiver.of_type("task-revoked") == receiver.of_type("task-started") & receiver.tasks
