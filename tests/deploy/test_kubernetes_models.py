"""Models on a volume or in a bucket: every shape's workers can read them, and the pod of the page can add them."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml  # type: ignore[import-untyped]  # publishes no types

from tests.deploy.known import unknown
from tests.deploy.manifests import PAGE, named, of_kind, ours, shape, with_volume
from tests.docs.pages import Page

FOLDER = "/models"
READ_ONLY = {"name": "models", "mountPath": FOLDER, "readOnly": True}
CREDENTIALS = {"secretRef": {"name": "scorebeat-store", "optional": True}}
"""Of a bucket."""
OLDEST = "1.29"


each_shape = pytest.mark.parametrize(
    ("name", "readers"),
    [
        ("base", {"api", "worker-cpu", "worker-gpu"}),
        ("overlays/keda", {"api", "worker-cpu", "worker-gpu"}),
        ("overlays/burst", {"iris-workers"}),
    ],
)


@each_shape
def test_pods_that_load_models_have_the_volume_read_only(name: str, readers: set[str], tmp_path: Path) -> None:
    objects = with_volume(name, tmp_path)

    for pod in ours(objects):
        mounts = [mount for container in pod.containers for mount in container["volumeMounts"]]
        assert mounts.count(READ_ONLY) == (pod.owner in readers), pod.owner
        assert [mount for mount in mounts if mount["mountPath"] == FOLDER] == [READ_ONLY] * (pod.owner in readers)
        claims = [v for v in pod.spec["volumes"] if v["name"] == "models"]
        assert claims == [{"name": "models", "persistentVolumeClaim": {"claimName": "models"}}] * (pod.owner in readers)
    (claim,) = of_kind(objects, "PersistentVolumeClaim")
    assert (claim["metadata"]["name"], claim["spec"]["accessModes"]) == ("models", ["ReadWriteMany"])
    assert named(objects, "ConfigMap", "scorebeat-settings")["data"]["SCOREBEAT_ARTIFACTS"] == FOLDER
    for one in objects:
        if not one["apiVersion"].startswith("keda.sh/"):
            kubernetes_validate.validate(one, OLDEST, strict=True)


def test_the_trial_requests_a_volume_that_a_cluster_of_one_machine_has() -> None:
    claim = named(shape("overlays/trial"), "PersistentVolumeClaim", "models")

    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]


@each_shape
def test_exactly_the_pods_that_load_models_have_a_buckets_credentials(name: str, readers: set[str]) -> None:
    for pod in ours(shape(name)):
        for container in pod.containers:
            loads = pod.owner in readers and container in pod.spec["containers"]
            assert container["envFrom"].count(CREDENTIALS) == loads, container["name"]
            assert len(container["envFrom"]) == 1 + loads


def test_the_page_lists_the_content_of_the_credentials_secret_and_how_to_make_it() -> None:
    typed = [block.text for block in Page.read(PAGE).blocks if "create secret generic" in block.text]
    (shown,) = (block for block in Page.read(PAGE).blocks if block.file == "store.env")

    assert any("create secret generic scorebeat-store --from-env-file=store.env\n" in text for text in typed)
    assert [line.partition("=")[0] for line in shown.lines] == [
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL",
    ]  # fmt: skip


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
def test_the_pages_pod_fits_the_schema_of_pods(version: str) -> None:
    kubernetes_validate.validate(_pod(), version, strict=True)


def test_the_pages_pod_may_write_the_store_and_has_the_owners_rights() -> None:
    (container,) = _pod()["spec"]["containers"]
    variables = {variable["name"]: variable for variable in container["env"]}

    assert {"name": "models", "mountPath": FOLDER} in container["volumeMounts"]
    assert {"name": "models", "persistentVolumeClaim": {"claimName": "models"}} in _pod()["spec"]["volumes"]
    assert variables["SCOREBEAT_ARTIFACTS"]["value"] == FOLDER
    assert container["envFrom"] == [CREDENTIALS], "the store may be a bucket"
    assert variables["SCOREBEAT_DATABASE_URL"]["valueFrom"]["secretKeyRef"]["name"] == "scorebeat-owner"
    assert unknown(set(variables)) == set()


def test_the_pages_pod_is_one_that_the_namespace_takes_and_ends_by_itself() -> None:
    spec, like = _pod()["spec"], next(pod for pod in ours(shape("base")) if pod.owner == "worker-cpu")
    (container,) = spec["containers"]

    assert spec["securityContext"] == like.spec["securityContext"]
    assert container["securityContext"] == like.containers[0]["securityContext"]
    assert container["image"].removeprefix("registry.example.org/") == like.containers[0]["image"]
    assert (spec["restartPolicy"], spec["activeDeadlineSeconds"]) == ("Never", 3600)
    assert (spec["automountServiceAccountToken"], spec["enableServiceLinks"]) == (False, False)


def test_the_page_reaches_the_pod_by_its_name() -> None:
    (typed,) = (block.text for block in Page.read(PAGE).blocks if "scorebeat models add" in block.text)
    name = _pod()["metadata"]["name"]

    named_there = re.findall(r"pod/(\w+)|(\w+):/tmp|exec (\w+) --|delete pod (\w+)", typed)
    assert [next(filter(None, found)) for found in named_there] == [name] * 4


def _pod() -> Any:
    (found,) = (block.text for block in Page.read(PAGE).blocks if block.text.startswith("apiVersion: v1\nkind: Pod\n"))
    return yaml.safe_load(found)
