"""Numbers and names in deploy/kubernetes that fit every schema and would still keep it from working."""

import re
from collections.abc import Collection
from decimal import Decimal
from typing import Any

import pytest
from fastapi.routing import APIRoute
from flower.urls import handlers

from scorebeat.api.routes.health import router
from scorebeat.core.jobs.schedule import Schedule
from tests.deploy.manifests import PAGE, SHAPES, Pod, named, of_kind, ours, pods, shape
from tests.deploy.patience import COMMAND_SECONDS

each_shape = pytest.mark.parametrize("name", SHAPES)
UNITS = {"m": Decimal("0.001"), "Mi": Decimal(2**20), "Gi": Decimal(2**30)}
SPARE_CPUS = Decimal("1.15")
"""Of two, what the programs of a cluster of one machine leave to others."""
SPARE_MEMORY = 3 * UNITS["Gi"]
PAGES = {
    "api": {route.path for route in router.routes if isinstance(route, APIRoute)},
    "flower": {str(one[0]) for one in handlers if isinstance(one, tuple)},
}
GPU = "nvidia.com/gpu"
ROW = re.compile(r"^\| `([\w-]+)` \| ([\d.]+ CPU[^|]*) \| ([^|]+) \|", re.MULTILINE)
"""Of the page's table of sizes: a pod, its request, its limit."""
PAGE_UNITS = {" CPU": ("cpu", Decimal(1)), " MiB": ("memory", UNITS["Mi"]), " GiB": ("memory", UNITS["Gi"])}
SMALLEST = 256 * UNITS["Mi"]
"""A command that queries the ledger takes 176 MiB."""
MODELS = 2 * UNITS["Gi"]
"""The size of the cache of those who load models."""
LEAST_GRACE = 30


@each_shape
def test_nothing_requests_more_than_its_limit(name: str) -> None:
    for pod in pods(shape(name)):
        for container in pod.containers:
            requests, most = container["resources"]["requests"], container["resources"]["limits"]
            assert [what for what in requests.keys() & most.keys() if amount(requests[what]) > amount(most[what])] == []


def test_the_trial_fits_on_two_cpus_beside_the_cluster_itself() -> None:
    needed = in_all("overlays/trial")

    assert needed["cpu"] <= SPARE_CPUS
    assert needed["memory"] <= SPARE_MEMORY


def test_the_page_lists_the_requests_of_the_trial_and_of_the_base() -> None:
    text = " ".join(PAGE.read_text("utf-8").split())
    trial, base = in_all("overlays/trial"), in_all("base", but=("worker-cpu", "worker-gpu", "migrate"))

    assert f"The trial asks for {in_words(trial)}," in text
    assert f"Before any worker, `base` asks for {in_words(base)}:" in text


def test_each_pod_has_the_documented_size() -> None:
    documented = {name: (size(least), size(most)) for name, least, most in ROW.findall(PAGE.read_text("utf-8"))}
    always, burst = (
        {c["name"]: (amounts(c, "requests"), amounts(c, "limits")) for pod in ours(shape(name)) for c in pod.containers}
        for name in ("base", "overlays/burst")
    )

    assert {name: always[name] for name in always.keys() - {"migrate", "apply"}} == documented
    assert [burst[name] for name in ("control", "beat", "worker")] == [
        documented[name] for name in ("control", "beat", "worker-cpu")
    ]


@each_shape
def test_our_containers_have_the_memory_and_the_scratch_space_of_their_work(name: str) -> None:
    loads = {one["metadata"]["name"] for one in shape(name) if "scorebeat-store" in one["metadata"].get("labels", {})}

    assert loads
    for pod in ours(shape(name)):
        (scratch,) = (volume["emptyDir"] for volume in pod.spec["volumes"] if volume["name"] == "tmp")
        assert amount(scratch["sizeLimit"]) >= (MODELS if pod.owner in loads else SMALLEST), pod.owner
        for container in pod.containers:
            assert amount(container["resources"]["limits"]["memory"]) >= SMALLEST, pod.owner


@each_shape
def test_every_pod_has_the_time_to_end_by_itself(name: str) -> None:
    for pod in pods(shape(name)):
        assert pod.spec.get("terminationGracePeriodSeconds", LEAST_GRACE) >= LEAST_GRACE, pod.owner


@each_shape
def test_probes_request_existing_pages_and_wait_long_enough_for_commands(name: str) -> None:
    for pod in ours(shape(name)):
        for container in pod.containers:
            for probe in (container[kind] for kind in container if kind.endswith("Probe")):
                if "httpGet" in probe:
                    assert probe["httpGet"]["path"] in PAGES[container["name"]], pod.owner
                else:
                    assert probe.get("timeoutSeconds", 1) >= COMMAND_SECONDS, pod.owner


@each_shape
def test_a_job_has_the_time_and_the_retries_that_its_work_takes(name: str) -> None:
    for one in of_kind(shape(name), "Job", "CronJob"):
        job = one["spec"].get("jobTemplate", one)["spec"]
        assert 6 <= job["backoffLimit"] <= 100, "one is not enough, and one that cannot work has to fail"
        assert job["activeDeadlineSeconds"] >= 1800
    for cron in of_kind(shape(name), "CronJob"):
        Schedule.parse(cron["spec"]["schedule"], cron["spec"]["timeZone"])
        assert cron["spec"]["startingDeadlineSeconds"] >= 60, "below 10 s Kubernetes may never start it"
        assert cron["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] >= 3600


@each_shape
def test_the_job_that_migrates_makes_room_for_its_successor(name: str) -> None:
    job = named(shape(name), "Job", "migrate")["spec"]

    assert 60 <= job["ttlSecondsAfterFinished"] <= 3600, "time to read its log, and no longer"


def test_ours_reach_the_servers_of_the_trial_and_nobody_else_does() -> None:
    objects = shape("overlays/trial")
    policy = named(objects, "NetworkPolicy", "scorebeat-reaches-its-servers")["spec"]
    (rule,) = policy["ingress"]
    (source,) = rule["from"]
    servers = {pod.labels["app.kubernetes.io/name"] for pod in pods(objects)} - {"scorebeat"}

    (to,) = policy["podSelector"]["matchExpressions"]
    assert (to["key"], set(to["values"])) == ("app.kubernetes.io/name", servers)
    assert servers == {"database", "broker"}
    assert source == {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "scorebeat"}}}


def test_a_gpu_worker_may_go_where_the_gpus_are() -> None:
    (pod,) = (pod for pod in ours(shape("base")) if pod.owner == "worker-gpu")
    (container,) = pod.containers

    assert GPU in container["resources"]["limits"]
    assert pod.spec["tolerations"] == [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]


def test_the_namespace_refuses_pods_with_more_rights() -> None:
    (namespace,) = of_kind(shape("base"), "Namespace")

    assert namespace["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}


def amount(text: str) -> Decimal:
    unit = text.lstrip("0123456789.")
    return Decimal(text.removesuffix(unit)) * UNITS.get(unit, 1)


def size(written: str) -> dict[str, Decimal]:
    """CPUs and bytes, of `2 CPUs, 1 GiB`."""
    found = re.findall(r"([\d.]+)( CPU| MiB| GiB)", written)
    return {PAGE_UNITS[unit][0]: Decimal(number) * PAGE_UNITS[unit][1] for number, unit in found}


def in_all(name: str, but: Collection[str] = ()) -> dict[str, Decimal]:
    """The sum of the requests of a shape's pods."""
    objects = shape(name)
    counted = [pod for pod in pods(objects) if pod.owner not in but]
    return {
        what: sum((requested(pod, what) * replicas(objects, pod) for pod in counted), Decimal())
        for what in ("cpu", "memory")
    }


def in_words(size: dict[str, Decimal]) -> str:
    return f"{size['cpu'].normalize():f} CPUs and {size['memory'] / UNITS['Gi']:.1f} GiB"


def amounts(container: dict[str, Any], which: str) -> dict[str, Decimal]:
    return {what: amount(text) for what, text in container["resources"][which].items() if what != GPU}


def requested(pod: Pod, what: str) -> Decimal:
    """As the scheduler counts: what runs together is added up, what runs before it is not."""
    before = [c for c in pod.spec.get("initContainers", ()) if c.get("restartPolicy") != "Always"]
    together = [container for container in pod.containers if container not in before]
    of = [amount(container["resources"]["requests"][what]) for container in together]
    return max(sum(of, Decimal()), *(amount(c["resources"]["requests"][what]) for c in before), Decimal())


def replicas(objects: tuple[Any, ...], pod: Pod) -> int:
    found = [one for one in of_kind(objects, "Deployment", "StatefulSet") if one["metadata"]["name"] == pod.owner]
    return found[0]["spec"]["replicas"] if found else 1
