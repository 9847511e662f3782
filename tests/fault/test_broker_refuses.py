"""A broker that responds, and refuses to write: its memory or its disk is full."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis

from scorebeat.core.states import RunState
from tests.support.fixtures import wait_for
from tests.support.system import GATED, System, assert_scored_once, own_system

pytestmark = pytest.mark.slow


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    with own_system(tmp_path) as made:
        made.programs.control()
        yield made


@contextmanager
def full_broker(system: System) -> Iterator[None]:
    """Every write is refused, as it is when the broker cannot write its log."""
    with redis.Redis(unix_socket_path=system.servers.broker_socket) as client:
        client.config_set("min-replicas-to-write", 1)
        try:
            yield
        finally:
            client.config_set("min-replicas-to-write", 0)


def test_a_broker_that_refused_to_write_for_a_while_ends_no_worker_and_no_run(system: System) -> None:
    job = system.job("full_broker", batch_rows=50, where=GATED)
    worker = system.programs.worker("cpu")
    with ExitStack() as full:
        with system.closed_gate():
            run = system.enqueue(job)
            system.at_the_gate()
            full.enter_context(full_broker(system))
            later = system.job("enqueued_while_full", batch_rows=50)
            other = system.enqueue(later)
            system.until_renewed(run)
        wait_for(lambda: "committed" in [state for state, *_ in system.batches(run)])
        wait_for(lambda: "NOREPLICAS" in system.programs.log(worker))

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert system.until_finished(other) is RunState.SUCCEEDED
    assert all(process.poll() is None for process, _ in system.programs.started)
    assert_scored_once(system, job)
    assert_scored_once(system, later)
