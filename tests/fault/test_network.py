"""A network that drops, resets, stalls and delays between the programs and their servers."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from subprocess import Popen
from typing import TypeAlias

import pytest
from sqlalchemy import make_url

from scorebeat.core.states import RunState
from tests.support.fixtures import kill_group, wait_for
from tests.support.proxy import Proxy, proxy_to
from tests.support.system import GATED, SLOW, System, assert_scored_once, own_system

pytestmark = pytest.mark.slow

Process: TypeAlias = "Popen[bytes]"

SOON = {"socket_timeout": 2, "health_check_interval": 1}
"""Seconds that a silent broker connection is believed."""
LOST = "onnection to broker lost"
OVERDUE = "Redis BRPOP got no reply"
IN_THE_COPY = 60_000
"""Bytes that a client sends over one connection only when it copies predictions."""


@dataclass(frozen=True)
class Network:
    """A system whose programs reach the broker through a proxy, and its scoring worker the database as well."""

    system: System
    database: Proxy
    broker: Proxy
    programs: tuple[Process, ...]
    """The scoring worker first."""

    @property
    def log(self) -> str:
        return self.system.programs.log(self.programs[0])


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with own_system(tmp_path_factory.mktemp("system")) as system:
        url = make_url(system.servers.urls.database_url)
        socket = f"{url.query['host']}/.s.PGSQL.5432"
        with proxy_to(socket) as database, proxy_to(system.servers.broker_socket) as broker:
            away = url.set(host="127.0.0.1", port=database.port, query={}).render_as_string(hide_password=False)
            through = {"SCOREBEAT_BROKER_URL": f"redis://127.0.0.1:{broker.port}/0"}
            control = _start(system, "worker", "-Q", "control,plan", "-n", "control@%h", "-c", "1", **through)
            beat = _start(system, "beat", **through)
            # pauses are long enough to see what a failed attempt left, before the next one
            through |= {"SCOREBEAT_DATABASE_URL": away, "SCOREBEAT_BACKOFF": "1s"}
            worker = _start(system, "worker", "-Q", "cpu", "-n", "through@%h", "-c", "2", **through)
            system.until_served("cpu", "control", "plan")
            yield Network(system, database, broker, (worker, control, beat))


@pytest.fixture
def network(wired: Network) -> Iterator[Network]:
    """Whole before and after the test."""
    yield wired
    for proxy in (wired.database, wired.broker):
        proxy.delay(0)
        proxy.resume()


def _start(system: System, program: str, *options: str, **extra: str) -> Process:
    """A worker or beat that notices a half-open broker connection soon."""
    transport = json.dumps(system.p.app.conf.broker_transport_options | SOON)
    words = ("celery", "-A", "scorebeat.worker", program, "-l", "INFO", *options)
    return system.programs.start(*words, "--", f"broker_transport_options=(json){transport}", **extra)


@pytest.fixture
def second(network: Network) -> Iterator[Process]:
    """A worker beside, on a way of its own; it is gone after the test."""
    process = network.system.programs.worker("cpu", name="beside")
    yield process
    kill_group(process)


@pytest.mark.wide
def test_a_connection_that_is_reset_during_a_copy_leaves_nothing_half_written(network: Network) -> None:
    system, proxy = network.system, network.database
    job = system.job("cut_copy", rows=2_000, batch_rows=2_000)
    table = system.query("SELECT table_name FROM scorebeat.prediction_sets WHERE job = :job", job=job.name)[0][0]
    proxy.when_sent(IN_THE_COPY, Proxy.reset)
    run = system.enqueue(job)

    statement = f"SELECT attempt, error, (SELECT count(*) FROM predictions.{table}) FROM scorebeat.batches"
    statement += " WHERE run_id = :id AND state = 'pending' AND error IS NOT NULL"
    ((attempt, error, stored),) = wait_for(lambda: system.query(statement, id=run))
    assert (attempt, stored) == (1, 0), error
    assert proxy.faults_done
    assert system.until_finished(run) is RunState.SUCCEEDED
    assert system.batches(run)[0][:2] == ("committed", 2)
    assert_scored_once(system, job)


def test_a_run_outlives_database_connections_that_are_dropped_all_at_once(network: Network) -> None:
    system = network.system
    job = system.job("dropped", rows=600, batch_rows=20, where=SLOW)
    run = system.enqueue(job)

    for batches in (4, 12, 20):
        _until_committed(system, run, batches)
        _drop_until_made_anew(network.database)

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert all(process.poll() is None for process in network.programs)
    assert_scored_once(system, job)


def test_a_batch_behind_a_silent_database_connection_is_taken_over_and_written_once(
    network: Network, request: pytest.FixtureRequest
) -> None:
    system, proxy = network.system, network.database
    job = system.job("silent_database", batch_rows=200, where=GATED)
    with system.closed_gate():
        run = system.enqueue(job)
        system.at_the_gate()
        proxy.stall()
        beside = request.getfixturevalue("second")
        wait_for(lambda: system.batches(run)[0][:2] == ("claimed", 2))

    assert system.until_finished(run) is RunState.SUCCEEDED
    proxy.resume()
    wait_for(lambda: f"claim.lost run={run} batch={system.first_batch(run)} attempt=1" in network.log)
    assert system.batches(run)[0][:2] == ("committed", 2)
    assert system.worker_of(run) == beside.pid
    assert_scored_once(system, job)


def test_a_slow_database_connection_loses_no_claim(network: Network) -> None:
    system = network.system
    job = system.job("slow_link", batch_rows=100, where=GATED)
    network.database.delay(0.04)
    with system.closed_gate():
        run = system.enqueue(job)
        system.at_the_gate(2)
        system.until_older_than_a_claim(run)

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert [attempt for _, attempt, _ in system.batches(run)] == [1, 1]
    assert_scored_once(system, job)


def test_a_silent_broker_connection_is_dropped_and_stops_no_claimed_batch(network: Network) -> None:
    system = network.system
    job = system.job("silent_broker", where=GATED)
    lost = network.log.count(LOST)
    with system.closed_gate():
        run = system.enqueue(job)
        system.at_the_gate(2)
        network.broker.strand()
        system.until_older_than_a_claim(run)
    _until_committed(system, run, 2)

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert network.log.count(LOST) > lost
    assert [attempt for _, attempt, _ in system.batches(run)] == [1] * 4
    assert_scored_once(system, job)


def test_workers_that_wait_on_a_silent_broker_connection_come_back_by_themselves(network: Network) -> None:
    system = network.system
    overdue = network.log.count(OVERDUE)
    network.broker.strand()
    job = system.job("silent_while_idle")
    run = system.enqueue(job)

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert network.log.count(OVERDUE) > overdue
    assert_scored_once(system, job)


def test_a_run_outlives_broker_connections_that_are_reset_again_and_again(network: Network) -> None:
    system = network.system
    job = system.job("reset_broker", rows=600, batch_rows=20, where=SLOW)
    run = system.enqueue(job)

    for batches in (4, 12, 20):
        _until_committed(system, run, batches)
        network.broker.reset()

    assert system.until_finished(run) is RunState.SUCCEEDED
    assert all(process.poll() is None for process in network.programs)
    assert_scored_once(system, job)


def _drop_until_made_anew(proxy: Proxy) -> None:
    before = proxy.accepted
    proxy.drop()
    wait_for(lambda: proxy.accepted > before)


def _until_committed(system: System, run: int, batches: int) -> None:
    statement = "SELECT 1 FROM scorebeat.batches WHERE run_id = :id AND state = 'committed' OFFSET :before"
    wait_for(lambda: system.query(statement, id=run, before=batches - 1))
