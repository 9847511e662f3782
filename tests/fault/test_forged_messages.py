"""Anybody who reaches the broker may write to it: a foreign message is a line in the log, and nothing else."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import pytest
import redis

from scorebeat.broker.guard.commands import MOST_PROCESSES
from scorebeat.core.jobs.job import Job
from scorebeat.core.queues import CONTROL, CONTROL_QUEUE, PLAN_QUEUE, SCORE
from scorebeat.core.states import RunState
from tests.support import forged
from tests.support.fixtures import wait_for
from tests.support.system import System, assert_scored_once, children, own_system

pytestmark = pytest.mark.slow

QUEUES = ("cpu", CONTROL_QUEUE, PLAN_QUEUE)
MORE_MEMORY = 120
"""MiB that all of a worker's processes may have more after a message of 50 MB and a bomb of 256."""

Workers = dict[str, "Popen[bytes]"]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system")) as made:
        yield made


@pytest.fixture(scope="module")
def workers(system: System) -> Workers:
    """A worker a queue, and beat; each has done something."""
    made = {queue: system.programs.worker(queue, name=queue) for queue in QUEUES}
    system.programs.beat()
    score(system, system.job("before"))
    return made


@pytest.fixture(scope="module")
def waiting(system: System, workers: Workers) -> Job:  # noqa: ARG001 -- they are there
    """A job with a run whose batches wait for a queue that nobody serves."""
    job = system.job("waiting", queue="nobody")
    run = system.enqueue(job)
    system.until_planned(run)
    assert len(system.batches(run)) == 4
    return job


def test_a_foreign_message_in_a_queue_is_one_line_in_the_log(
    system: System, workers: Workers, waiting: Job, tmp_path: Path
) -> None:
    before = ledger(system), {queue: tree(worker) for queue, worker in workers.items()}
    memory = {queue: mebibytes(worker) for queue, worker in workers.items()}
    touched = tmp_path / "touched"
    score_one = forged.true_message(system, SCORE, batch_of(system, waiting))
    made = [forged.envelopes(score_one), forged.code(score_one, touched), forged.calls(score_one)]
    bad = {name: raw for each in (*made, forged.arguments(score_one)) for name, raw in each.items()}
    assert len(bad) == sum(map(len, made)) + len(forged.arguments(score_one))

    logged = {queue: lines_of(system, workers[queue], bad, queue) for queue in QUEUES}

    assert {name for name, lines in logged.items() if len(lines) != len(bad)} == set()
    assert (ledger(system), {queue: tree(worker) for queue, worker in workers.items()}) == before
    assert not touched.exists()
    grown = {queue: mebibytes(worker) - memory[queue] for queue, worker in workers.items()}
    assert max(grown.values()) < MORE_MEMORY, grown
    for worker in workers.values():
        log = system.programs.log(worker)
        assert forged.PAYLOAD[:20] not in log
        assert "Traceback" not in log
    score(system, system.job("after_the_storm"))


def test_good_messages_about_what_is_not_there_do_nothing(system: System, workers: Workers, waiting: Job) -> None:
    before = ledger(system), {queue: tree(worker) for queue, worker in workers.items()}
    good = forged.unknown(forged.true_message(system, SCORE, batch_of(system, waiting)))

    for queue in QUEUES:
        before_these = ends(system, workers[queue])
        for raw in good.values():
            system.push(system.key(queue), raw.decode())
        logged = [name for name in good if not name.startswith(CONTROL)]  # the log leaves out what keeps it moving
        until_ended(system, workers[queue], before_these + len(logged))

    assert (ledger(system), {queue: tree(worker) for queue, worker in workers.items()}) == before
    assert all("tick.unknown" in system.programs.log(worker) for worker in workers.values())
    assert not any("Traceback" in system.programs.log(worker) for worker in workers.values())
    score(system, system.job("after_the_unknown"))


def test_a_broadcast_that_is_no_command_is_one_line_in_each_log(system: System, workers: Workers) -> None:
    before = {queue: tree(worker) for queue, worker in workers.items()}
    channel = system.key("/0.celery.pidbox")
    true = a_command(system)
    bad = forged.envelopes(true) | forged.commands(true)
    counts = {queue: len(refusals(system, worker)) for queue, worker in workers.items()}

    small = [raw for raw in bad.values() if 0 < len(raw) < 1_000_000]
    with redis.Redis(unix_socket_path=system.servers.broker_socket) as client:
        assert [client.publish(channel, raw) for raw in small] == [len(QUEUES)] * len(small)
        for queue, worker in workers.items():
            until_refused(system, worker, counts[queue] + len(small))
        client.publish(channel, bad["50 MB"])  # the server cuts off who does not read so much at once; or it is refused

    wait_for(lambda: len(system.p.app.control.ping(timeout=2)) == len(QUEUES))
    assert {queue: tree(worker) for queue, worker in workers.items()} == before
    assert not any("Traceback" in system.programs.log(worker) for worker in workers.values())
    score(system, system.job("after_the_commands"))


def test_a_worker_takes_at_most_its_hosts_processes_however_often_it_is_sent_more(
    system: System, workers: Workers
) -> None:
    control, grown = system.p.app.control, system.programs.worker("grown", name="grown")
    (name,) = wait_for(lambda: [n for n in control.inspect(timeout=2).ping() or {} if n.startswith("grown")])
    options = {"destination": [name], "reply": True, "timeout": 5}

    most = {"n": MOST_PROCESSES}
    replies = [control.broadcast("pool_grow", arguments=most, **options) for _ in range(3)]
    replies += [control.broadcast("pool_shrink", arguments=most, **options)]
    replies += [control.broadcast("autoscale", arguments={"max": 2, "min": 1}, **options)]

    assert all("error" in reply[0][name] for reply in replies)
    assert len(children(grown.pid)) <= MOST_PROCESSES
    assert control.broadcast("pool_grow", arguments={"n": 1}, **options) == [{name: {"ok": "pool will grow"}}]
    assert control.broadcast("cancel_consumer", arguments={"queue": "grown"}, **options)[0][name]["ok"]
    assert "Traceback" not in system.programs.log(grown)
    system.programs.stop(grown)
    assert all(worker.poll() is None for worker in workers.values())


def test_junk_among_what_the_broker_keeps_as_unacknowledged_is_taken_away(system: System, workers: Workers) -> None:
    before = {queue: tree(worker) for queue, worker in workers.items()}
    text = json.dumps([forged.PAYLOAD, "cpu", "cpu"]).encode()
    tags = {"junk": b"junk", "a number": b"1", "a list": b"[1]", "parts": b'["a", "b", "c"]', "a text": text,
            "a type of kombu's": b'[{"__type__": "decimal", "__value__": "x"}, "cpu", "cpu"]',
            "no message": b'[{}, "cpu", "cpu"]', "a message to no one": b'[{}, 1, {}]'}  # fmt: skip
    with redis.Redis(unix_socket_path=system.servers.broker_socket) as client:
        for tag, raw in tags.items():
            client.hset(system.key("unacked"), tag, raw)
            client.zadd(system.key("unacked_index"), {tag: 1})
        wait_for(lambda: not any(client.hexists(system.key("unacked"), tag) for tag in tags))

    for worker in workers.values():
        assert "Traceback" not in system.programs.log(worker)
        assert forged.PAYLOAD[:20] not in system.programs.log(worker)
    assert {queue: tree(worker) for queue, worker in workers.items()} == before
    score(system, system.job("after_the_junk"))


def score(system: System, job: Job) -> None:
    """A true run, to its very end: nothing more is to be written of it."""
    run = system.enqueue(job)
    assert system.until_finished(run) is RunState.SUCCEEDED
    assert_scored_once(system, job)
    wait_for(lambda: system.query("SELECT 1 FROM scorebeat.runs WHERE id = :run AND noted_at IS NOT NULL", run=run))


def lines_of(system: System, worker: "Popen[bytes]", messages: dict[str, bytes], queue: str) -> list[str]:
    """The worker's log lines on these when all are taken."""
    before = len(refusals(system, worker))
    with redis.Redis(unix_socket_path=system.servers.broker_socket) as client:
        for raw in messages.values():
            client.lpush(system.key(queue), raw)
        # beat's tick may be there for a short time
        wait_for(lambda: client.llen(system.key(queue)) <= 1)
    until_refused(system, worker, before + len(messages))
    return refusals(system, worker)[before:]


def until_refused(system: System, worker: "Popen[bytes]", messages: int) -> None:
    wait_for(lambda: len(refusals(system, worker)) >= messages)


def refusals(system: System, worker: "Popen[bytes]") -> list[str]:
    return [line for line in system.programs.log(worker).splitlines() if "message.refused" in line]


def ends(system: System, worker: "Popen[bytes]") -> int:
    """Tasks that the worker has ended well; those of control are left out of the log."""
    return len(re.findall(r"Task scorebeat\.\w+\[\S+\] succeeded", system.programs.log(worker)))


def until_ended(system: System, worker: "Popen[bytes]", tasks: int) -> None:
    wait_for(lambda: ends(system, worker) >= tasks)


def a_command(system: System) -> forged.Message:
    """A broadcast as Celery sends it, without a command."""
    with redis.Redis(unix_socket_path=system.servers.broker_socket) as client, client.pubsub() as heard:
        heard.subscribe(system.key("/0.celery.pidbox"))
        assert heard.get_message(timeout=5) is not None
        system.p.app.control.broadcast("heartbeat")
        message = heard.get_message(timeout=5)
    assert message is not None
    found: forged.Message = json.loads(message["data"])
    assert b"heartbeat" in base64.b64decode(found["body"])
    return found


def ledger(system: System) -> list[list[tuple[object, ...]]]:
    tables = ("batches", "runs", "jobs", "quarantine", "prediction_sets", "model_versions", "notices")
    return [system.query(f"SELECT * FROM scorebeat.{table} ORDER BY 1") for table in tables]


def batch_of(system: System, job: Job) -> int:
    ((batch,),) = system.query(
        "SELECT min(b.id) FROM scorebeat.batches b JOIN scorebeat.runs r ON r.id = b.run_id WHERE r.job = :job",
        job=job.name,
    )
    return int(batch)


def tree(worker: "Popen[bytes]") -> list[int]:
    """Process ids: of a worker that died, or that lost a process, they are others."""
    assert worker.poll() is None
    return [worker.pid, *sorted(children(worker.pid))]


def mebibytes(worker: "Popen[bytes]") -> float:
    """Memory of all its processes."""
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in tree(worker)]
    return sum(int(re.findall(r"VmRSS:\s+(\d+) kB", text)[0]) for text in texts) / 1024
