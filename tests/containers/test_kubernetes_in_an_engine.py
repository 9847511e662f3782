"""Every container of deploy/kubernetes runs from the image, under its own rights and limits, with its own probes."""

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.containers.cluster import (
    BURST,
    SERVERS,
    TOKEN,
    System,
    add_rows,
    migrated,
    require_each_row_once,
    sql,
    started,
    use_two_roles,
)
from tests.containers.engine import docker, inspect
from tests.containers.pods import BEGUN, Node, RunningPod, amount, may_reach, pod_of
from tests.deploy.manifests import pods, shape, with_volume
from tests.support.fixtures import wait_for
from tests.support.system import children

pytestmark = pytest.mark.wide

DEPLOYED = ("control", "beat", "worker-cpu", "api", "flower")


@pytest.fixture(scope="module")
def servers(machine: Node) -> System:
    return started(machine, shape("overlays/trial"), SERVERS)


@pytest.fixture(scope="module")
def trial(machine: Node, servers: System) -> System:
    """The database is made ready, by a Job that may be applied again, and everything runs."""
    migrated(machine, shape("overlays/trial"))
    migrated(machine, shape("overlays/trial"))
    return {**servers, **started(machine, shape("overlays/trial"), DEPLOYED)}


def enqueue(pod: RunningPod) -> None:
    """A run of the schedule may be open: then that one scores the rows."""
    done = pod.exec("control", "scorebeat", "enqueue", "iris", "--wait")
    assert done.returncode == 0 or "open run already" in done.stderr, done.stdout + done.stderr


def test_the_trial_scores_every_row_once(trial: System) -> None:
    enqueue(trial["control"])

    wait_for(lambda: sql(trial, "SELECT count(*) FROM scorebeat.runs WHERE state = 'succeeded'") != "0", 240, every=1)
    require_each_row_once(trial)


def test_each_process_has_only_the_rights_of_its_security_context(trial: System) -> None:
    for pod in trial.values():
        wanted = pod.pod.spec["securityContext"]
        for name, one in pod.ids.items():
            status = Path(f"/proc/{inspect(one, '{{.State.Pid}}')}/status").read_text("ascii")
            found = dict(re.findall(r"^(\w+):\t(.*)$", status, re.MULTILINE))
            assert found["Uid"].split() == [str(wanted["runAsUser"])] * 4, name
            assert found["Gid"].split() == [str(wanted["runAsGroup"])] * 4, name
            assert {found[which] for which in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")} == {"0" * 16}, name
            assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2"), name
            assert "Read-only file system" in pod.exec(name, "touch", "/file").stderr, name


def test_every_connection_of_a_pod_is_one_that_the_policies_allow(trial: System) -> None:
    objects = shape("overlays/trial")
    addresses = {pod.address: name for name, pod in trial.items()}
    seen = set()
    for name, pod in trial.items():
        pid = inspect(next(iter(pod.ids.values())), "{{.State.Pid}}")
        for line in Path(f"/proc/{pid}/net/tcp").read_text("ascii").splitlines()[1:]:
            _, _, remote, state = line.split()[:4]
            to = addresses.get(".".join(str(byte) for byte in reversed(bytes.fromhex(remote[:8]))))
            if state == "01" and to in SERVERS and int(remote[9:], 16) in (5432, 6379):
                seen.add((name, to))

    assert {name for name, _ in seen} == {*DEPLOYED}, "each has its connections"
    for name, to in seen:
        assert may_reach(objects, trial[to].pod, "server", trial[name].pod.labels), (name, to)
    assert not may_reach(objects, trial["database"].pod, "server", {"app.kubernetes.io/name": "stranger"})
    assert not may_reach(objects, trial["worker-cpu"].pod, "server", trial["control"].pod.labels)


def test_each_container_took_less_memory_than_it_requests(trial: System) -> None:
    table = []
    for pod in trial.values():
        for container in pod.pod.spec["containers"]:
            sizes = container["resources"]
            took = memory(pod, container["name"])
            requested, most = (amount(sizes[which]["memory"]) for which in ("requests", "limits"))
            table.append(
                f"{container['name']}: {took / 2**20:.0f} MiB of {requested / 2**20:.0f}, {most / 2**20:.0f} at most"
            )
            assert took < requested, table[-1]
    print("\n".join(table))  # noqa: T201 -- the page's figures


def memory(pod: RunningPod, container: str) -> float:
    """Bytes of its processes, shared ones counted once, as the kernel counts them for the limit."""
    pids = [inspect(pod.ids[container], "{{.State.Pid}}")]
    total = 0.0
    while pids:
        pid = pids.pop()
        kept = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
        total += int(re.search(r"^Pss:\s+(\d+) kB", kept, re.MULTILINE)[1]) * 1024  # type: ignore[index]  # always there
        pids += Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    return total


@pytest.mark.parametrize("name", ["api", "flower"])
def test_a_stuck_server_fails_its_liveness_probe_and_no_other_does(trial: System, name: str) -> None:
    pod, other = trial[name], trial["flower" if name == "api" else "api"]

    with stopped(pod):
        assert not pod.passes(pod.pod.spec["containers"][0], "livenessProbe")
        assert other.passes(other.pod.spec["containers"][0], "livenessProbe")

    assert pod.passes(pod.pod.spec["containers"][0], "livenessProbe")


@pytest.mark.parametrize("name", ["beat", "control", "worker-cpu"])
def test_a_stuck_program_is_not_ready(trial: System, name: str) -> None:
    (container,) = trial[name].pod.spec["containers"]

    with stopped(trial[name]):
        wait_for(lambda: not trial[name].passes(container, "readinessProbe"), 120, every=2.0)

    wait_for(lambda: trial[name].passes(container, "readinessProbe"), 60, every=1.0)


@contextmanager
def stopped(pod: RunningPod) -> Iterator[None]:
    """The pod's program and its processes go on after the block."""
    pids = [int(inspect(pod.ids[pod.pod.owner], "{{.State.Pid}}"))]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
        pids += children(pid)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_an_api_without_a_database_is_alive_and_not_ready(trial: System) -> None:
    (container,) = trial["api"].pod.spec["containers"]
    database = trial["database"].ids["database"]

    docker("stop", database)
    assert not trial["api"].passes(container, "readinessProbe")
    assert trial["api"].passes(container, "livenessProbe")
    docker("start", database)

    wait_for(lambda: trial["api"].passes(container, "readinessProbe"), 120, every=1.0)
    page = f"http://{trial['api'].address}:8000/runs"
    wait_for(lambda: httpx.get(page, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200, 60, every=1.0)
    assert httpx.get(page).status_code == 401


def test_a_pod_that_is_deleted_ends_by_itself_within_its_grace(trial: System) -> None:
    for name in DEPLOYED:
        began = time.monotonic()

        ended = trial[name].stop()

        assert ended == {name: 0}, "137 would be a kill after the grace period"
        assert time.monotonic() - began < trial[name].pod.spec["terminationGracePeriodSeconds"]


def test_base_and_keda_score_with_two_roles(machine: Node, trial: System, tmp_path: Path) -> None:
    """The trial has ended, its servers go on; KEDA's pods are the base's, in another number."""
    base = with_volume("base", tmp_path)
    assert [(pod.owner, pod.spec) for pod in pods(shape("overlays/keda"))] == [
        (pod.owner, pod.spec) for pod in pods(shape("base"))
    ]
    use_two_roles(machine, trial)
    migrated(machine, base)
    add_rows(trial, 3_000)

    made = started(machine, base, DEPLOYED)

    enqueue(made["control"])
    rows = sql(trial, "SELECT count(*) FROM items")
    wait_for(lambda: sql(trial, "SELECT count(*) FROM predictions.iris") == rows, 240, every=1.0)
    require_each_row_once(trial)
    for name in DEPLOYED:
        assert made[name].stop() == {name: 0}


def test_a_gpu_worker_without_a_gpu_names_what_is_missing(machine: Node, trial: System) -> None:  # noqa: ARG001 -- its ledger
    gpu = RunningPod(machine, pod_of(shape("base"), "worker-gpu"), shape("base"), "worker-gpu")
    gpu.start()
    wait_for(lambda: "cuda" in gpu.log("worker-gpu").lower(), 120, every=1.0)

    assert re.search(r"error: .*(GPU|CUDA|cuda)", gpu.log("worker-gpu"))
    gpu.remove()


@pytest.mark.usefixtures("machine")
def test_every_container_of_every_shape_was_run_here() -> None:
    """The trial has those of the base, in sizes of its own; those of the burst are started by tests in another file."""
    of_burst = {(owner, name) for owner, name in containers("overlays/burst") if owner in BURST}

    for name in ("base", "overlays/keda", "overlays/trial", "overlays/burst"):
        assert containers(name) - of_burst <= BEGUN


def containers(name: str) -> set[tuple[str, str]]:
    return {(pod.owner, container["name"]) for pod in pods(shape(name)) for container in pod.containers}
