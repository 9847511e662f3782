"""When Kubernetes counts a pod of deploy/kubernetes as there, when it ends one, and how many it may take away."""

import pytest

from tests.deploy.manifests import SHAPES, Pod, of_kind, option, ours, pods, shape

each_shape = pytest.mark.parametrize("name", SHAPES)
LONGEST_START = 60
"""Seconds that the API takes at most to listen on a busy machine, with every model's package to import."""
LONGEST_PAUSE = 30
"""Seconds that a server may be too busy to respond."""
ROLLED_OUT = ("beat", "control", "worker-cpu", "worker-gpu", "api", "flower")
"""Those whose update waits until the new pod does its work."""


def test_an_update_waits_until_a_new_pod_does_its_work() -> None:
    assert {pod.owner for pod in ours(shape("base")) if "readinessProbe" in pod.containers[0]} == set(ROLLED_OUT)


def test_a_probe_checks_the_program_itself_and_a_busy_ledger_ends_none() -> None:
    for pod in _of("base", "beat", "control", "worker-cpu", "worker-gpu"):
        (container,) = pod.containers
        which = pod.owner.partition("-")[0]
        assert container["readinessProbe"]["exec"]["command"] == ["scorebeat", "health", which]
        assert not {"livenessProbe", "startupProbe"} & container.keys(), pod.owner


def test_a_server_that_is_stuck_is_started_again_and_one_that_is_busy_is_not() -> None:
    for pod in _of("base", "api", "flower"):
        (container,) = pod.containers
        alive = container["livenessProbe"]
        assert LONGEST_PAUSE <= alive["periodSeconds"] * alive["failureThreshold"] <= 300, pod.owner
        assert alive["timeoutSeconds"] >= 5, pod.owner
        assert container["readinessProbe"]["timeoutSeconds"] >= 5, pod.owner
        starting = container.get("startupProbe", alive)
        assert starting["periodSeconds"] * starting["failureThreshold"] >= LONGEST_START, pod.owner


@each_shape
def test_a_probe_uses_a_port_of_its_container(name: str) -> None:
    for pod in pods(shape(name)):
        for container in pod.containers:
            ports = {container[kind].get("httpGet", {}).get("port") for kind in container if kind.endswith("Probe")}
            assert ports - {None} <= {port["name"] for port in container.get("ports", ())}, pod.owner


def test_the_trials_database_is_checked_at_the_address_of_its_clients() -> None:
    """By TCP: while the image sets the server up, it listens on its socket only."""
    (database,) = (pod.containers[0] for pod in pods(shape("overlays/trial")) if pod.owner == "database")

    assert option(database["readinessProbe"]["exec"]["command"], "-h") == "127.0.0.1"


@each_shape
def test_a_machine_can_be_emptied_pod_by_pod_also_while_the_database_is_away(name: str) -> None:
    deployed = [one["spec"] for one in of_kind(shape(name), "Deployment")]
    for budget in (one["spec"] for one in of_kind(shape(name), "PodDisruptionBudget")):
        (replicas,) = (one["replicas"] for one in deployed if one["selector"] == budget["selector"])
        assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        assert budget.get("maxUnavailable", 1) == 1
        assert budget.get("minAvailable", 0) <= replicas - 1, "one may go"


@each_shape
def test_pods_that_must_outlive_a_machine_are_on_several_machines(name: str) -> None:
    for pod in pods(shape(name)):
        for spread in pod.spec.get("topologySpreadConstraints", ()):
            assert spread["labelSelector"]["matchLabels"] == pod.labels, pod.owner
            assert spread["whenUnsatisfiable"] == "ScheduleAnyway", "a full machine keeps no pod from starting"
    assert {pod.owner for pod in pods(shape("base")) if "topologySpreadConstraints" in pod.spec} == {"control", "api"}


def _of(name: str, *owners: str) -> list[Pod]:
    return [pod for pod in ours(shape(name)) if pod.owner in owners]
