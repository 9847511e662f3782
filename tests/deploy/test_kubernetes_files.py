"""deploy/kubernetes has only fields of Kubernetes and KEDA, and its objects find each other."""

import re
import shutil
import tomllib
from pathlib import Path
from typing import Any, Literal

import kubernetes_validate
import pytest
import yaml  # type: ignore[import-untyped]  # publishes no types
from pydantic import BaseModel, ConfigDict, Field

from scorebeat.core.jobs.jobs_file import read_file
from tests.deploy.kustomize import render
from tests.deploy.manifests import REPOSITORY, ROOT, SHAPES, named, of_kind, option, ours, pods, shape
from tests.deploy.packages import KUSTOMIZE, WANTING, kustomized

OLDEST = "1.29"
"""The first Kubernetes that runs containers beside others of a Job by default."""

each_shape = pytest.mark.parametrize("name", SHAPES)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Named(Strict):
    name: str


class ScaleDown(Strict):
    selectPolicy: Literal["Disabled"]  # noqa: N815 -- KEDA's name


class Trigger(Strict):
    type: Literal["postgresql"]
    authenticationRef: Named  # noqa: N815 -- KEDA's name
    metadata: dict[Literal["query", "targetQueryValue"], str]  # KEDA takes texts only


class Scaled(Strict):
    """Of a ScaledObject what is used here, as keda.sh/v1alpha1 has it."""

    scaleTargetRef: Named  # noqa: N815 -- KEDA's name
    minReplicaCount: Literal[0]  # noqa: N815 -- KEDA's name
    maxReplicaCount: int = Field(ge=1)  # noqa: N815 -- KEDA's name
    pollingInterval: int = Field(ge=5)  # noqa: N815 -- KEDA's name
    cooldownPeriod: int = Field(ge=0)  # noqa: N815 -- KEDA's name
    advanced: dict[
        Literal["horizontalPodAutoscalerConfig"], dict[Literal["behavior"], dict[Literal["scaleDown"], ScaleDown]]
    ]
    triggers: list[Trigger] = Field(min_length=1, max_length=1)


@pytest.mark.slow(quick=4)
@each_shape
@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
def test_every_object_fits_the_schema_of_its_kind(name: str, version: str) -> None:
    for one in shape(name):
        if not one["apiVersion"].startswith("keda.sh/"):
            kubernetes_validate.validate(one, version, strict=True)


def test_a_misspelt_field_fits_no_schema() -> None:
    beat = {**named(shape("base"), "Deployment", "beat")}
    beat["spec"] = {**beat["spec"], "replica": 1}

    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(beat, OLDEST, strict=True)


@pytest.mark.skipif(not KUSTOMIZE, reason=WANTING)
@each_shape
def test_kustomize_makes_the_same_of_each_shape_as_these_tests(name: str) -> None:
    built = kustomized(ROOT / name)
    without_hashes = re.sub(r"\b(scorebeat-(?:jobs|settings))-[a-z0-9]{10}\b", r"\1", built)

    assert _by_name(yaml.safe_load_all(without_hashes)) == _by_name(shape(name))


def test_every_file_belongs_to_a_shape() -> None:
    named_files = set()
    for file in ROOT.rglob("kustomization.yaml"):
        content = yaml.safe_load(file.read_text("utf-8"))
        names = [
            *content.get("resources", ()),
            *(patch["path"] for patch in content.get("patches", ()) if "path" in patch),
        ]
        names += [name for made in content.get("configMapGenerator", ()) for name in made.get("files", ())]
        named_files |= {file.parent / name for name in names} | {file}

    assert {file for file in ROOT.rglob("*") if file.is_file()} <= named_files


def test_a_patch_that_meets_nothing_is_noticed(tmp_path: Path) -> None:
    shutil.copytree(ROOT, tmp_path / "all")
    lost = tmp_path / "all/overlays/trial/kustomization.yaml"
    lost.write_text(lost.read_text("utf-8").replace("kind: Job, name: migrate", "kind: Job, name: migration"), "utf-8")

    with pytest.raises(AssertionError, match="no object is"):
        render(lost.parent)


@each_shape
def test_a_selector_selects_pods_of_one_workload_by_ports_that_they_have(name: str) -> None:
    objects = shape(name)
    for one in of_kind(objects, "Deployment", "StatefulSet", "PodDisruptionBudget"):
        assert _selected(objects, one["spec"]["selector"]) == [one["metadata"]["name"]]
    for one in of_kind(objects, "Service"):
        (owner,) = _selected(objects, {"matchLabels": one["spec"]["selector"]})
        assert {port["targetPort"] for port in one["spec"]["ports"]} <= _ports(objects, owner)
    for one in of_kind(objects, "NetworkPolicy"):
        owners = _selected(objects, one["spec"]["podSelector"])
        assert owners
        for rule in one["spec"].get("ingress", ()):
            open_ports = {port["port"] for port in rule["ports"]}
            assert open_ports == {port for owner in owners for port in _ports(objects, owner)}


@each_shape
def test_volumes_claims_and_config_maps_are_there_by_name(name: str) -> None:
    objects = shape(name)
    maps = {one["metadata"]["name"] for one in of_kind(objects, "ConfigMap")}
    claims = {one["metadata"]["name"] for one in of_kind(objects, "PersistentVolumeClaim")}
    templates = {
        s["metadata"]["name"]: {c["metadata"]["name"] for c in s["spec"]["volumeClaimTemplates"]}
        for s in of_kind(objects, "StatefulSet")
    }
    for pod in pods(objects):
        volumes = pod.spec.get("volumes", ())
        mounted = {mount["name"] for container in pod.containers for mount in container.get("volumeMounts", ())}
        assert mounted == {volume["name"] for volume in volumes} | templates.get(pod.owner, set())
        assert {v["configMap"]["name"] for v in volumes if "configMap" in v} <= maps
        assert {v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v} <= claims
        sources = [source for container in pod.containers for source in container.get("envFrom", ())]
        assert {source["configMapRef"]["name"] for source in sources if "configMapRef" in source} <= maps
        assert [source for source in sources if "secretRef" in source and not source["secretRef"]["optional"]] == []


def test_a_queue_is_counted_for_the_workers_that_serve_it() -> None:
    objects = shape("overlays/keda")
    (login,) = of_kind(objects, "TriggerAuthentication")
    scaled = of_kind(objects, "ScaledObject")

    assert [one["metadata"]["name"] for one in scaled] == ["worker-cpu", "worker-gpu"]
    for one in scaled:
        spec = Scaled.model_validate(one["spec"])
        workers = named(objects, "Deployment", spec.scaleTargetRef.name)
        command = workers["spec"]["template"]["spec"]["containers"][0]["command"]
        counted = re.findall(r"queue = '(\w+)'", spec.triggers[0].metadata["query"])
        assert counted == [option(command, "--queue")] * 2  # batches and canaries
        assert "replicas" not in workers["spec"], "KEDA sets how many there are"
        assert spec.triggers[0].authenticationRef.name == login["metadata"]["name"]
        assert int(spec.triggers[0].metadata["targetQueryValue"]) >= int(option(command, "--processes"))


@each_shape
def test_each_example_of_jobs_is_read_and_its_queues_are_served(name: str, tmp_path: Path) -> None:
    objects = shape(name)
    file = tmp_path / "jobs.toml"
    file.write_text(named(objects, "ConfigMap", "scorebeat-jobs")["data"]["jobs.toml"], "utf-8")
    commands = [container["command"] for pod in ours(objects) for container in pod.containers]
    served = {option(command, "--queue") for command in commands if "--queue" in command}

    for job in read_file(file).jobs:
        assert job.queue in served
        assert (job.schedule is None) == (name == "overlays/burst"), "who starts it: beat, or the CronJob"


def test_the_images_are_those_of_this_version() -> None:
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    tag = version.removesuffix(".dev0")
    images: dict[str, set[str]] = {}
    for name in SHAPES:
        for pod in ours(shape(name)):
            for container in pod.containers:
                images.setdefault(container["image"], set()).add(pod.owner)

    assert set(images) == {f"scorebeat:{tag}", f"scorebeat-cuda:{tag}"}
    assert images[f"scorebeat-cuda:{tag}"] == {"worker-gpu"}


def _by_name(objects: Any) -> dict[tuple[str, str], Any]:
    return {(one["kind"], one["metadata"]["name"]): one for one in objects}


def _selected(objects: Any, selector: dict[str, Any]) -> list[str]:
    """Owners of the pods that the selector means."""
    exact = selector.get("matchLabels", {}).items()
    one_of = [(rule["key"], rule["values"]) for rule in selector.get("matchExpressions", ())]
    return [
        pod.owner
        for pod in pods(objects)
        if exact <= pod.labels.items() and all(pod.labels.get(key) in values for key, values in one_of)
    ]


def _ports(objects: Any, owner: str) -> set[str]:
    (pod,) = (pod for pod in pods(objects) if pod.owner == owner)
    return {port["name"] for container in pod.containers for port in container.get("ports", ())}
