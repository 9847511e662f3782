"""The shapes of deploy/kubernetes, and the parts of their objects that tests use."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # publishes no types

from tests.deploy.kustomize import Resource, render

REPOSITORY = Path(__file__).parents[2]
ROOT = REPOSITORY / "deploy/kubernetes"
SHAPES = ("base", "overlays/keda", "overlays/trial", "overlays/burst")
PAGE = REPOSITORY / "docs/how-to/kubernetes.md"


@dataclass(frozen=True)
class Pod:
    """The pods of one workload."""

    owner: str
    labels: dict[str, str]
    spec: dict[str, Any]

    @property
    def containers(self) -> list[dict[str, Any]]:
        """All, in the order in which they start."""
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]


@cache
def shape(name: str) -> tuple[Resource, ...]:
    return tuple(render(ROOT / name))


def with_volume(name: str, folder: Path) -> tuple[Resource, ...]:
    """The shape as a folder of one's own makes it that adds the component."""
    shutil.copytree(ROOT, folder / "kubernetes")
    own = folder / "own"
    own.mkdir()
    wanted = {
        "namespace": "scorebeat",
        "resources": [f"../kubernetes/{name}"],
        "components": ["../kubernetes/components/models-volume"],
    }
    (own / "kustomization.yaml").write_text(yaml.safe_dump(wanted), "utf-8")
    return tuple(render(own))


def of_kind(objects: tuple[Resource, ...], *kinds: str) -> list[Resource]:
    return [one for one in objects if one["kind"] in kinds]


def named(objects: tuple[Resource, ...], kind: str, name: str) -> Resource:
    return next(one for one in of_kind(objects, kind) if one["metadata"]["name"] == name)


def pods(objects: tuple[Resource, ...]) -> Iterator[Pod]:
    for one in objects:
        spec = one.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        if template is not None:
            yield Pod(one["metadata"]["name"], template["metadata"]["labels"], template["spec"])


def ours(objects: tuple[Resource, ...]) -> list[Pod]:
    """Without the servers of the trial."""
    return [pod for pod in pods(objects) if pod.labels["app.kubernetes.io/name"] == "scorebeat"]


def calls(container: dict[str, Any], folder: Path, **variables: str) -> list[list[str]]:
    """The programs of ours that a container's command calls, with their arguments; a shell's by running it.

    In the shell each fails with 2 when it is called first, so that what is done then is called too.
    """
    command = [*container["command"], *container.get("args", ())]
    if command[0] != "sh":
        return [command]
    log = folder / "calls"
    log.unlink(missing_ok=True)
    again = 'grep -qxF "scorebeat $*" "$CALLS" 2> /dev/null && exit 0'
    _stub(folder / "scorebeat", f'{again}\necho scorebeat "$@" >> "$CALLS"\nexit 2')
    _stub(folder / "sleep", "exit 0")
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "CALLS": str(log), **variables}
    subprocess.run(command, env=environment, check=False, timeout=10, capture_output=True)
    return [line.split() for line in log.read_text("utf-8").splitlines()]


def _stub(file: Path, text: str) -> None:
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def secrets_used(objects: tuple[Resource, ...]) -> set[tuple[str, str]]:
    """Names and keys of the secrets that the objects require."""
    found: set[tuple[str, str]] = set()
    for pod in pods(objects):
        for variable in (v for container in pod.containers for v in container.get("env", ())):
            source = variable.get("valueFrom", {}).get("secretKeyRef")
            if source is not None and not source.get("optional"):
                found.add((source["name"], source["key"]))
    for one in of_kind(objects, "TriggerAuthentication"):
        found |= {(source["name"], source["key"]) for source in one["spec"]["secretTargetRef"]}
    return found
