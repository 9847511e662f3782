"""Pods of deploy/kubernetes start and can be reached: mistakes that no schema finds."""

import re
from pathlib import PurePosixPath
from typing import Any

import pytest

from tests.deploy.compose import SECRETS, read
from tests.deploy.known import unknown
from tests.deploy.manifests import PAGE, SHAPES, Pod, named, of_kind, option, ours, pods, shape
from tests.docs.pages import Page

each_shape = pytest.mark.parametrize("name", SHAPES)
KEDA = {"host", "port", "dbName", "userName", "password", "sslmode"}
"""The parameters of a login that KEDA's PostgreSQL scaler knows; it ignores others silently."""
EVERYBODY = "0.0.0.0"  # noqa: S104 -- in a container, whose ports its Service opens
DEBIAN = {"postgres": 999, "redis": 999}
"""Users of the images that are made from Debian; Alpine's have other numbers."""


@each_shape
def test_every_variable_that_looks_like_a_setting_is_one(name: str) -> None:
    variables = {key for one in of_kind(shape(name), "ConfigMap") for key in one["data"]}
    variables |= {
        variable["name"] for pod in ours(shape(name)) for c in pod.containers for variable in c.get("env", ())
    }

    assert "SCOREBEAT_DATABASE_URL" in variables
    assert unknown(variables) == set()


@each_shape
def test_a_program_keeps_its_files_on_a_writable_path(name: str) -> None:
    settings = named(shape(name), "ConfigMap", "scorebeat-settings")["data"]

    for pod in ours(shape(name)):
        for container in pod.containers:
            assert {"configMapRef": {"name": "scorebeat-settings"}} in container["envFrom"]
            for path in (settings["HOME"], settings["SCOREBEAT_CACHE"]):
                assert _lies_in(path, _writable(container)), f"{pod.owner}: {path}"


def test_the_api_and_flower_listen_to_others_at_the_port_of_their_service() -> None:
    objects = shape("base")
    api, flower = (_container(objects, name) for name in ("api", "flower"))

    assert (option(api["command"], "--host"), api["ports"][0]["containerPort"]) == (EVERYBODY, 8000)
    assert option(api["command"], "--port") == "8000"
    assert {f"--address={EVERYBODY}", f"--port={flower['ports'][0]['containerPort']}"} <= set(flower["command"])


@each_shape
def test_a_secret_is_taken_by_its_own_name_and_the_pod_waits_for_it(name: str) -> None:
    for pod in pods(shape(name)):
        variables = [variable for container in pod.containers for variable in container.get("env", ())]
        taken = {
            v["name"]: v["valueFrom"]["secretKeyRef"] for v in variables if "secretKeyRef" in v.get("valueFrom", {})
        }
        assert {variable: source["key"] for variable, source in taken.items()} == {one: one for one in taken}, pod.owner
        assert {one for one, source in taken.items() if source.get("optional")} <= {"SCOREBEAT_NOTIFY_SECRET"}, (
            pod.owner
        )


def test_keda_gets_all_parts_of_the_login_by_their_names() -> None:
    (login,) = of_kind(shape("overlays/keda"), "TriggerAuthentication")

    assert {one["parameter"] for one in login["spec"]["secretTargetRef"]} == KEDA
    assert {one["key"] for one in login["spec"]["secretTargetRef"]} == KEDA


def test_the_page_has_the_trial_reach_the_servers_that_it_brings() -> None:
    objects = shape("overlays/trial")
    (text,) = (block.text for block in Page.read(PAGE).blocks if "/overlays/trial" in block.text)
    urls = re.findall(r"(\w+)://(\w*):\$\w+@([\w-]+):(\d+)/(\w+)", text)
    services = {one["metadata"]["name"]: one["spec"] for one in of_kind(objects, "Service")}
    database = {v["name"]: v.get("value") for v in _container(objects, "database")["env"]}

    assert {url[2] for url in urls} == {"database", "broker"}
    for scheme, user, host, port, rest in urls:
        assert str(services[host]["ports"][0]["port"]) == port
        assert str(_container(objects, host)["ports"][0]["containerPort"]) == port
        if scheme == "postgresql":
            assert (user, rest) == (database["POSTGRES_USER"], database["POSTGRES_DB"])


def test_the_page_forwards_a_port_that_the_service_has() -> None:
    found = re.search(r"port-forward service/([\w-]+) \d+:(\d+)", PAGE.read_text("utf-8"))

    assert found is not None
    ports = named(shape("overlays/trial"), "Service", found[1])["spec"]["ports"]
    assert [str(port["port"]) for port in ports] == [found[2]]


def test_the_servers_of_the_trial_may_write_what_they_keep() -> None:
    objects = shape("overlays/trial")
    compose = read(dict.fromkeys(SECRETS, "x")).services

    for name, image in (("database", "postgres"), ("broker", "redis")):
        pod, container = _pod(objects, name), _container(objects, name)
        assert container["image"] == compose[name].definition["image"]
        assert re.fullmatch(rf"{image}:[\d.]+-(bookworm|trixie)", container["image"])
        assert pod.spec["securityContext"]["runAsUser"] == DEBIAN[image]
        assert pod.spec["securityContext"]["fsGroup"] == DEBIAN[image]
    database = _container(objects, "database")
    data = next(v["value"] for v in database["env"] if v["name"] == "PGDATA")
    # a folder below: the root of a volume has lost+found in it, and belongs to root
    assert data not in _writable(database)
    assert _lies_in(data, _writable(database))
    assert "/var/run/postgresql" in _writable(database)


def test_the_pods_that_may_reach_the_api_are_labelled_as_documented() -> None:
    policy = named(shape("base"), "NetworkPolicy", "clients-reach-the-api-and-flower")["spec"]
    (rule,) = policy["ingress"]
    ((label, value),) = rule["from"][0]["namespaceSelector"]["matchLabels"].items()

    assert policy["podSelector"]["matchExpressions"][0]["values"] == ["api", "flower"]
    assert f"`{label}={value}`" in PAGE.read_text("utf-8")


@each_shape
def test_an_unopened_port_is_closed_and_nothing_is_open_to_other_machines(name: str) -> None:
    policies = of_kind(shape(name), "NetworkPolicy")
    closed = {"podSelector": {}, "policyTypes": ["Ingress"]}

    assert named(shape(name), "NetworkPolicy", "nobody-comes-in")["spec"] == closed
    assert [one for one in policies if one["spec"]["policyTypes"] != ["Ingress"]] == []
    assert [one for one in of_kind(shape(name), "Service") if "type" in one["spec"]] == [], "of the cluster only"


@each_shape
def test_a_process_that_posts_notices_has_the_key_that_signs_them(name: str) -> None:
    controls = [c for pod in ours(shape(name)) for c in pod.containers if "--control" in " ".join(c["command"])]
    key = {"name": "scorebeat", "key": "SCOREBEAT_NOTIFY_SECRET", "optional": True}

    assert controls
    for container in controls:
        assert {"name": key["key"], "valueFrom": {"secretKeyRef": key}} in container["env"]


def test_an_update_of_the_gpu_workers_needs_no_gpu_to_spare() -> None:
    rolling = named(shape("base"), "Deployment", "worker-gpu")["spec"]["strategy"]["rollingUpdate"]

    assert rolling == {"maxSurge": 0, "maxUnavailable": 1}


def _pod(objects: Any, owner: str) -> Pod:
    return next(pod for pod in pods(objects) if pod.owner == owner)


def _container(objects: Any, owner: str) -> dict[str, Any]:
    container: dict[str, Any] = _pod(objects, owner).spec["containers"][0]
    return container


def _writable(container: dict[str, Any]) -> set[str]:
    return {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}


def _lies_in(path: str, folders: set[str]) -> bool:
    return any(PurePosixPath(path).is_relative_to(folder) for folder in folders)
