"""The pattern's own shape, without a cluster: the very commands of its CronJobs as processes, through whole runs."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from scorebeat.core.jobs.job import Job
from scorebeat.core.jobs.jobs_file import read_jobs
from tests.deploy.kubelet import Node, Restarts, RunningPod
from tests.deploy.manifests import Pod, calls, named, option, pods, shape
from tests.support.fixtures import wait_for
from tests.support.fork_server import FORKS
from tests.support.system import System, assert_scored_once, own_system

pytestmark = pytest.mark.wide

SHAPE = shape("overlays/burst")
RUN, WORKERS = (next(pod for pod in pods(SHAPE) if pod.owner == name) for name in ("iris-run", "iris-workers"))
PARALLEL = named(SHAPE, "CronJob", "iris-workers")["spec"]["jobTemplate"]["spec"]["parallelism"]
WITHIN = 180.0


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    with own_system(tmp_path) as made:
        yield made


@pytest.fixture
def job(system: System, tmp_path: Path) -> Job:
    """The job that the CronJobs name, over rows of the test's own."""
    file = tmp_path / "of-the-shape.toml"
    file.write_text(named(SHAPE, "ConfigMap", "scorebeat-jobs")["data"]["jobs.toml"], "utf-8")
    (shipped,) = read_jobs(file)
    return system.job(shipped.name, queue=shipped.queue)


@pytest.fixture
def node(system: System, tmp_path: Path) -> Iterator[Node]:
    folder = tmp_path / "node"
    folder.mkdir()
    urls = system.servers.urls
    made = Node(
        folder,
        {"SCOREBEAT_DATABASE_URL": urls.database_url, "SCOREBEAT_BROKER_URL": urls.broker_url},
        {
            "HOME": str(folder),
            "SCOREBEAT_ARTIFACTS": str(system.settings.artifacts),
            "SCOREBEAT_CACHE": str(folder / "cache"),
            "SCOREBEAT_LOG_FORMAT": "text",
        },
        programs=FORKS.commands(),
    )
    yield made
    made.end()
    print(made.logs())  # noqa: T201 -- pytest shows it where a test failed


class Minute:
    """The pods that Kubernetes starts at one time: as many of each Job as it declares."""

    def __init__(self, node: Node, minute: int) -> None:
        self._node, self._minute = node, minute
        self._restarts = {pod.owner: Restarts(pod.backoff_limit) for pod in (RUN, WORKERS)}

    def run(self) -> RunningPod:
        return self._pod(RUN, 0)

    def workers(self) -> list[RunningPod]:
        return [self._pod(WORKERS, number) for number in range(PARALLEL)]

    def _pod(self, pod: Pod, number: int) -> RunningPod:
        return RunningPod(self._node, pod, f"{pod.owner}-{self._minute}", number, self._restarts[pod.owner])


def runs(system: System) -> list[tuple[object, ...]]:
    return system.query("SELECT run_key, state FROM scorebeat.runs ORDER BY id")


def test_compute_starts_scores_everything_once_and_ends(system: System, job: Job, node: Node) -> None:
    now = Minute(node, 29714179)

    workers = now.workers()
    wait_for(lambda: runs(system))
    run = now.run()

    assert [one.join(WITHIN) for one in workers] == [{"enqueue": 0, "worker": 0}] * PARALLEL
    assert run.join(WITHIN) == {"control": 0, "beat": 0, "enqueue": 0}
    assert runs(system) == [("iris-29714179", "succeeded")]
    assert_scored_once(system, job)
    assert not [process.pid for process in node.running if process.poll() is None]
    assert system.query("SELECT name FROM scorebeat.workers") == [], "nobody is left to be waited for"


def test_jobs_that_are_retried_request_no_second_run(system: System, job: Job, node: Node) -> None:
    for again in (False, True):
        run = Minute(node, 1).run()
        wait_for(lambda: runs(system))
        workers = Minute(node, 1).workers()
        assert run.join(WITHIN)["enqueue"] == 0
        assert [one.join(WITHIN) for one in workers] == [{"enqueue": 0, "worker": 0}] * PARALLEL
        assert ("was enqueued before by run key 'iris-1'" in node.log("iris-run-1-0-enqueue")) is again

    assert runs(system) == [("iris-1", "succeeded")]
    assert_scored_once(system, job)


def test_a_run_left_open_by_an_earlier_minute_is_finished_by_the_next(system: System, job: Job, node: Node) -> None:
    left = system.enqueue(job)  # and nobody to plan it, as after a Job that was deleted

    run = Minute(node, 7).run()
    wait_for(lambda: node.log("iris-run-7-0-enqueue").count("has an open run already") > 2, WITHIN)
    workers = Minute(node, 7).workers()

    assert [one.join(WITHIN)["worker"] for one in workers] == [0] * PARALLEL
    assert run.join(WITHIN)["enqueue"] == 0
    assert run.exits == {"control": [0], "beat": [0], "enqueue": [0]}, "no restart that Kubernetes would count"
    assert system.query("SELECT state FROM scorebeat.runs WHERE id = :id", id=left) == [("succeeded",)]
    assert "nothing is pending" in node.log("iris-run-7-0-enqueue"), "what was left open was all there was"
    assert_scored_once(system, job)


def test_a_database_that_is_away_for_long_costs_no_restart(system: System, job: Job, node: Node) -> None:
    system.servers.stop("database")
    now = Minute(node, 8)
    run, workers = now.run(), now.workers()
    for name in ("iris-run-8-0-control", "iris-run-8-0-enqueue", "iris-workers-8-0-enqueue"):
        wait_for(lambda name=name: node.log(name).count("error: ") > 2, WITHIN)  # type: ignore[misc]  # bound now

    system.servers.start("database")

    assert [one.join(WITHIN) for one in workers] == [{"enqueue": 0, "worker": 0}] * PARALLEL
    assert run.join(WITHIN) == {"control": 0, "beat": 0, "enqueue": 0}
    assert (run.restarts.count, workers[0].restarts.count) == (0, 0)
    assert_scored_once(system, job)


def test_a_container_that_never_starts_well_fails_the_job_and_ends_its_others(node: Node) -> None:
    nobody = replace(node, secrets={**node.secrets, "SCOREBEAT_BROKER_URL": "redis://127.0.0.1:1/0"})
    few = replace(RUN, backoff_limit=2)

    run = RunningPod(nobody, few, "iris-run-1")

    run.join(WITHIN)
    assert run.restarts.count == few.backoff_limit
    assert run.exits["control"] == [2, 2]
    assert run.exits["enqueue"] == [-signal.SIGTERM], "it would have waited on"


def test_a_worker_that_is_killed_starts_again_and_everything_is_scored_once(system: System, node: Node) -> None:
    job = system.job("iris", rows=4000, batch_rows=50)
    now = Minute(node, 9)
    run, workers = now.run(), now.workers()
    statement = "SELECT split_part(claimed_by, '/', 2)::int FROM scorebeat.batches WHERE state = 'claimed'"
    victim = wait_for(lambda: system.query(statement))[0]

    os.killpg(victim[0], signal.SIGKILL)

    assert [one.join(WITHIN)["worker"] for one in workers] == [0] * PARALLEL
    assert run.join(WITHIN)["enqueue"] == 0
    assert sorted(len(one.exits["worker"]) for one in workers) == [1] * (PARALLEL - 1) + [2]
    assert_scored_once(system, job)


def test_both_start_at_the_same_minute_never_twice_and_use_the_same_key(tmp_path: Path) -> None:
    crons = [named(SHAPE, "CronJob", pod.owner)["spec"] for pod in (RUN, WORKERS)]
    typed = [
        call
        for pod in (RUN, WORKERS)
        for container in pod.containers
        for call in calls(container, tmp_path, JOB_NAME=f"{pod.owner}-29714179")
        if call[1] == "enqueue"
    ]

    assert len({(c["schedule"], c["timeZone"], c["startingDeadlineSeconds"]) for c in crons}) == 1
    assert {c["concurrencyPolicy"] for c in crons} == {"Forbid"}
    assert [call[:3] for call in typed] == [["scorebeat", "enqueue", "iris"]] * 2
    assert {option(call, "--run-key") for call in typed} == {"iris-29714179"}
    assert ["--wait" in call for call in typed] == [True, False]
    assert [c["name"] for c in RUN.containers if c.get("restartPolicy") == "Always"] == ["control", "beat"]
    assert "completions" not in crons[1]["jobTemplate"]["spec"], "one that ends well means that the work is done"
