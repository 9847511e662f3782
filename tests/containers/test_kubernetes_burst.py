"""The two Jobs of the burst in containers, which are started again as by the kubelet, through whole runs and faults."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import count

import pytest

from tests.containers.cluster import (
    RUN,
    SERVERS,
    WORKERS,
    System,
    add_rows,
    migrated,
    require_each_row_once,
    secrets_of_one_role,
    sql,
    started,
    use_two_roles,
)
from tests.containers.engine import docker, inspect
from tests.containers.pods import Node, RunningPod, node, pod_of
from tests.deploy.kustomize import Resource
from tests.deploy.manifests import SHAPES, named, ours, shape, with_volume
from tests.support.fixtures import wait_for

pytestmark = pytest.mark.wide

PARALLEL = named(shape("overlays/burst"), "CronJob", WORKERS)["spec"]["jobTemplate"]["spec"]["parallelism"]
WITHIN = 120.0
ROWS = 3_000
"""Pending when a test begins."""
TERMINATED = 128 + signal.SIGTERM


@pytest.fixture(scope="module")
def servers(machine: Node) -> System:
    """The trial's, with its example: rows and a model."""
    made = started(machine, shape("overlays/trial"), SERVERS)
    migrated(machine, shape("overlays/trial"))
    return made


@pytest.fixture(scope="module")
def burst(machine: Node, servers: System, tmp_path_factory: pytest.TempPathFactory) -> tuple[Resource, ...]:
    use_two_roles(machine, servers)
    objects = with_volume("overlays/burst", tmp_path_factory.mktemp("own"))
    migrated(machine, objects)
    return objects


@dataclass
class Minute:
    """The pods that Kubernetes starts at one time: as many of each Job as it declares."""

    machine: Node
    objects: tuple[Resource, ...]
    number: int
    pods: list[RunningPod] = field(default_factory=list)

    def pod(self, owner: str, number: int = 0) -> RunningPod:
        pod = pod_of(self.objects, owner)
        made = RunningPod(self.machine, pod, self.objects, f"{owner}-{number}", f"{owner}-{self.number}")
        self.pods.append(made)
        return made

    def start(self, until: Callable[[RunningPod], object] | None = None) -> tuple[RunningPod, list[RunningPod]]:
        """The run's pod and, when `until` returns, those of the workers, whose first containers have ended well."""
        run = self.pod(RUN)
        run.start()
        workers = [self.pod(WORKERS, number) for number in range(PARALLEL)]
        with ThreadPoolExecutor(PARALLEL) as threads:
            starts = [threads.submit(worker.start) for worker in workers]
            if until is not None:
                until(run)
        for each in starts:
            each.result()
        return run, workers

    def require_good_end(self, run: RunningPod, workers: list[RunningPod], restarts: int = 0) -> None:
        """Each program ends with 0, and what runs beside the main container after it. So many were started again."""
        assert [worker.exit_code("worker", WITHIN) for worker in workers] == [0] * PARALLEL
        assert run.exit_code("enqueue", WITHIN) == 0, run.log("enqueue")
        assert sum(sum(pod.restarts().values()) for pod in (run, *workers)) == restarts
        assert run.stop() == {"control": 0, "beat": 0, "enqueue": 0}

    def remove(self) -> None:
        for pod in self.pods:
            pod.remove()
        self.pods.clear()


NUMBERS = count(29714179)


@pytest.fixture
def minute(machine: Node, servers: System, burst: tuple[Resource, ...]) -> Iterator[Minute]:
    """The next one, with rows that are pending."""
    add_rows(servers, ROWS)
    made = Minute(machine, burst, next(NUMBERS))
    yield made
    for pod in made.pods:
        for name in pod.ids:
            print(f"--- {pod.name} {name}\n{pod.log(name)[-4000:]}")  # noqa: T201 -- pytest shows it where a test failed
    made.remove()


def runs(servers: System) -> list[str]:
    """The newest first, each as its key and its state."""
    return sql(servers, "SELECT run_key, state FROM scorebeat.runs ORDER BY id DESC").splitlines()


def test_a_burst_scores_each_row_once_and_a_retry_makes_no_second_run(minute: Minute, servers: System) -> None:
    before = len(runs(servers))
    run, workers = minute.start()
    minute.require_good_end(run, workers)
    assert sql(servers, "SELECT name FROM scorebeat.workers") == "", "nobody is left to be waited for"
    require_each_row_once(servers)
    minute.remove()

    again, workers = minute.start()

    assert again.exit_code("enqueue", WITHIN) == 0
    assert f"was enqueued before by run key 'iris-{minute.number}'" in again.log("enqueue")
    minute.require_good_end(again, workers)
    assert runs(servers)[0] == f"iris-{minute.number}|succeeded"
    assert len(runs(servers)) == before + 1
    require_each_row_once(servers)


def test_a_run_left_open_by_an_earlier_minute_is_finished_by_the_next(minute: Minute, servers: System) -> None:
    left = minute.pod(RUN)  # its Job was deleted before anything planned the run
    left.open()
    left.begin(left.pod.spec["containers"][0])
    wait_for(lambda: runs(servers)[0] == f"iris-{minute.number}|planning", WITHIN, every=0.3)
    minute.remove()
    later = Minute(minute.machine, minute.objects, next(NUMBERS), minute.pods)

    run, workers = later.start(
        lambda run: wait_for(partial(_has, run, "enqueue", "has an open run already"), WITHIN, every=0.3)
    )

    later.require_good_end(run, workers)
    assert f"iris-{minute.number}|succeeded" in runs(servers)
    require_each_row_once(servers)


def test_a_database_that_is_away_costs_no_restart(minute: Minute, servers: System) -> None:
    database = servers["database"]
    docker("stop", database.ids["database"])

    def it_comes_back(run: RunningPod) -> None:
        worker = next(pod for pod in minute.pods if pod.pod.owner == WORKERS)
        for pod, container in ((run, "control"), (run, "enqueue"), (worker, "enqueue")):
            wait_for(partial(_has, pod, container, "error: "), WITHIN, every=0.3)
        docker("start", database.ids["database"])
        database.until_ready()

    run, workers = minute.start(it_comes_back)

    minute.require_good_end(run, workers)
    require_each_row_once(servers)


def test_a_broker_that_is_away_restarts_control_alone(minute: Minute, servers: System) -> None:
    """A Job fails at some restarts of all its containers together, so each that need not end must not."""
    docker("stop", servers["broker"].ids["broker"])

    def it_comes_back(run: RunningPod) -> None:
        wait_for(lambda: run.restarts()["control"] >= 2, WITHIN, every=0.3)
        assert {name for name, times in run.restarts().items() if times} == {"control"}
        docker("start", servers["broker"].ids["broker"])
        servers["broker"].until_ready()

    run, workers = minute.start(it_comes_back)

    minute.require_good_end(run, workers, restarts=run.restarts()["control"])
    require_each_row_once(servers)


def test_a_worker_that_is_killed_starts_again_and_everything_is_scored_once(minute: Minute, servers: System) -> None:
    add_rows(servers, 200_000)
    claims = "SELECT claimed_by FROM scorebeat.batches WHERE state = 'claimed' LIMIT 1"
    run, workers = minute.start()
    claimed_by = wait_for(lambda: sql(servers, claims), WITHIN, every=0.1)
    victim = next(worker for worker in workers if worker.name in claimed_by)

    os.kill(int(inspect(victim.ids["worker"], "{{.State.Pid}}")), signal.SIGKILL)

    minute.require_good_end(run, workers, restarts=1)
    require_each_row_once(servers)


CONTAINERS = {
    f"{pod.owner}-{container['name']}": (name, pod.owner, container["name"])
    for name in SHAPES
    for pod in ours(shape(name))
    for container in pod.containers
}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """No server is there, so that what waits for one goes on waiting."""
    with node(tmp_path_factory.mktemp("alone"), secrets_of_one_role()) as made:
        yield made


@pytest.mark.parametrize("which", CONTAINERS)
def test_a_container_that_has_just_started_ends_by_a_signal(which: str, alone: Node) -> None:
    objects, owner, name = shape(CONTAINERS[which][0]), *CONTAINERS[which][1:]
    pod = RunningPod(alone, pod_of(objects, owner), objects, f"{owner}-alone", f"{owner}-1")
    pod.open()
    pod.begin(next(one for one in pod.pod.containers if one["name"] == name))

    docker("stop", "--time", "20", pod.ids[name])

    assert int(inspect(pod.ids[name], "{{.State.ExitCode}}")) in (0, TERMINATED), f"137 is a kill\n{pod.log(name)}"
    pod.remove()


def _has(pod: RunningPod, container: str, text: str) -> bool:
    return text in pod.log(container)
