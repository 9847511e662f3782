"""Pods of deploy/kubernetes in containers of a real engine, each started, probed and stopped as the kubelet does."""

import secrets
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from tests.containers.engine import IMAGE, address, build, docker, inspect, require_engine, run
from tests.deploy.kustomize import Resource
from tests.deploy.manifests import Pod, named, of_kind, pods
from tests.support.fixtures import wait_for

LABEL = "scorebeat-under-test"
ENDS = 300.0
"""Seconds in which a container that ends by itself does."""
_UNITS = {"m": 0.001, "Mi": 2**20, "Gi": 2**30}

Container = dict[str, Any]

BEGUN: set[tuple[str, str]] = set()
"""Owner and name of each container that was started."""


@dataclass
class Node:
    """One network, its volumes, and the secrets that pods refer to."""

    folder: Path
    secrets: dict[str, dict[str, str]]
    name: str = field(default_factory=lambda: f"scorebeat-pods-{secrets.token_hex(4)}")

    def image(self, name: str) -> str:
        """The GPU's image is not built: its pod runs from the other one."""
        return IMAGE if name.startswith("scorebeat") else name

    def volume(self, claim: str, group: int) -> str:
        """The claim's volume, which the pod's group may write, as the kubelet makes it."""
        volume = f"{self.name}-{claim}"
        docker("volume", "create", "--label", f"{LABEL}={self.name}", volume)
        docker("run", "--rm", "--user", "0", "--volume", f"{volume}:/data", "--entrypoint", "sh", IMAGE,
               "-c", f"chgrp {group} /data && chmod 2775 /data")  # fmt: skip
        return volume


@dataclass
class RunningPod:
    """The containers of a pod: one network and, as the pods of ours have, one space of processes."""

    node: Node
    pod: Pod
    objects: Sequence[Resource]
    name: str
    job: str = ""
    """Of its Job, for the label of that name."""
    ids: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        """All its containers; those that run before the others are waited for."""
        self.open()
        for container in self.pod.spec.get("initContainers", ()):
            self.begin(container)
            if container.get("restartPolicy") != "Always":
                assert self.exit_code(container["name"]) == 0, self.log(container["name"])
        for container in self.pod.spec["containers"]:
            self.begin(container)

    def open(self) -> None:
        """Its network and, if its containers share one, its space of processes; its first process is no container's."""
        self._sandbox = docker(
            "run", "--detach", "--init", "--label", f"{LABEL}={self.node.name}", "--network", self.node.name,
            "--network-alias", self.pod.owner, "--user", "10001:10001", "--read-only", "--cap-drop", "ALL",
            "--hostname", self.name, "--no-healthcheck", "--entrypoint", "sleep", IMAGE, "infinity",
        )  # fmt: skip

    def begin(self, container: Container) -> None:
        fails_end = self.pod.spec.get("restartPolicy") == "OnFailure" and container.get("restartPolicy") != "Always"
        again = "on-failure:20" if fails_end else "unless-stopped"
        words = ["run", "--detach", "--no-healthcheck", "--label", f"{LABEL}={self.node.name}", "--restart", again,
                 "--network", f"container:{self._sandbox}", *self._rights(container), *self._bounds(container),
                 *self._mounts(container)]  # fmt: skip
        if self.pod.spec.get("shareProcessNamespace"):
            words += ["--pid", f"container:{self._sandbox}"]
        if "workingDir" in container:
            words += ["--workdir", container["workingDir"]]
        for name, value in self._variables(container).items():
            words += ["--env", f"{name}={value}"]
        program = container.get("command", ())
        if program:
            words += ["--entrypoint", program[0]]
        BEGUN.add((self.pod.owner, container["name"]))
        self.ids[container["name"]] = docker(*words, self.node.image(container["image"]), *program[1:])

    def exit_code(self, container: str, within: float = ENDS) -> int:
        """Waits for the container's last end, when it is not started again."""
        wait_for(lambda: self.state(container) == "exited", within, every=0.3)
        return int(inspect(self.ids[container], "{{.State.ExitCode}}"))

    def state(self, container: str) -> str:
        return inspect(self.ids[container], "{{.State.Status}}")

    def restarts(self) -> dict[str, int]:
        """How often each container was started again after it failed."""
        return {name: int(inspect(one, "{{.RestartCount}}")) for name, one in self.ids.items()}

    def log(self, container: str) -> str:
        """Empty before the container has started."""
        if container not in self.ids:
            return ""
        done = run("logs", self.ids[container])
        return done.stdout + done.stderr

    def exec(self, container: str, *command: str) -> "subprocess.CompletedProcess[str]":
        return run("exec", self.ids[container], *command)

    @property
    def address(self) -> str:
        return address(self._sandbox)

    def passes(self, container: Container, kind: str) -> bool:
        """Whether the probe ends well within its time."""
        probe = container[kind]
        most = probe.get("timeoutSeconds", 1)
        if "exec" in probe:
            began = time.monotonic()
            done = self.exec(container["name"], *probe["exec"]["command"])
            return done.returncode == 0 and time.monotonic() - began < most
        (port,) = (one["containerPort"] for one in container["ports"] if one["name"] == probe["httpGet"]["port"])
        try:
            found = httpx.get(f"http://{self.address}:{port}{probe['httpGet']['path']}", timeout=most)
        except httpx.HTTPError:
            return False
        return 200 <= found.status_code < 400

    def until_ready(self) -> None:
        for container in self.pod.spec["containers"]:
            for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
                if kind in container:
                    wait_for(partial(self.passes, container, kind), 240, every=1.0)

    def stop(self) -> dict[str, int]:
        """preStop, then SIGTERM; what goes on after the grace period is killed. The exit codes."""
        grace = str(self.pod.spec.get("terminationGracePeriodSeconds", 30))
        for container in self.pod.spec["containers"]:
            before = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command")
            if before:
                assert self.exec(container["name"], *before).returncode == 0
        docker("stop", "--time", grace, *self.ids.values())
        ended = {name: int(inspect(one, "{{.State.ExitCode}}")) for name, one in self.ids.items()}
        self.remove()
        return ended

    def remove(self) -> None:
        docker("rm", "--force", *self.ids.values(), self._sandbox)

    def _rights(self, container: Container) -> list[str]:
        pod, own = self.pod.spec["securityContext"], container["securityContext"]
        assert pod["runAsNonRoot"] is True
        assert own == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, "the engine's own, which is there by default"
        return ["--user", f"{pod['runAsUser']}:{pod['runAsGroup']}", "--group-add", str(pod["fsGroup"]),
                "--security-opt", "no-new-privileges", "--read-only", "--cap-drop", "ALL"]  # fmt: skip

    def _bounds(self, container: Container) -> list[str]:
        limits = container["resources"]["limits"]
        words = ["--memory", str(int(amount(limits["memory"])))]
        return [*words, "--cpus", str(amount(limits["cpu"]))] if "cpu" in limits else words

    def _mounts(self, container: Container) -> Iterator[str]:
        volumes = {one["name"]: one for one in self.pod.spec.get("volumes", ())}
        for mount in container.get("volumeMounts", ()):
            volume, path = volumes.get(mount["name"], {}), mount["mountPath"]
            mode = ":ro" if mount.get("readOnly") else ""
            if "emptyDir" in volume:
                yield from ("--tmpfs", f"{path}:mode=1777")
            elif "configMap" in volume:
                folder = self.node.folder / f"{self.name}-{mount['name']}"
                folder.mkdir(exist_ok=True)
                folder.chmod(0o755)
                for name, text in named(tuple(self.objects), "ConfigMap", volume["configMap"]["name"])["data"].items():
                    (folder / name).write_text(text, "utf-8")
                yield from ("--volume", f"{folder}:{path}:ro")
            else:
                claim = volume.get("persistentVolumeClaim", {}).get("claimName", f"{self.pod.owner}-{mount['name']}")
                group = self.pod.spec["securityContext"]["fsGroup"]
                yield from ("--volume", f"{self.node.volume(claim, group)}:{path}{mode}")

    def _variables(self, container: Container) -> dict[str, str]:
        found: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            if "configMapRef" in source:
                found |= named(tuple(self.objects), "ConfigMap", source["configMapRef"]["name"])["data"]
            else:
                assert source["secretRef"]["optional"]
                found |= self.node.secrets.get(source["secretRef"]["name"], {})
        for variable in container.get("env", ()):
            source = variable.get("valueFrom", {})
            if "secretKeyRef" in source:
                wanted = source["secretKeyRef"]
                value = self.node.secrets[wanted["name"]].get(wanted["key"])
                assert value is not None or wanted.get("optional"), wanted
                if value is not None:
                    found[variable["name"]] = value
            elif "fieldRef" in source:
                found[variable["name"]] = self.job
            else:
                found[variable["name"]] = variable["value"]
        return found


def amount(text: str) -> float:
    unit = text.lstrip("0123456789.")
    return float(text.removesuffix(unit)) * _UNITS.get(unit, 1)


def pod_of(objects: Sequence[Resource], owner: str) -> Pod:
    return next(pod for pod in pods(tuple(objects)) if pod.owner == owner)


def may_reach(objects: Sequence[Resource], to: Pod, port: str, labels: dict[str, str]) -> bool:
    """Whether the NetworkPolicies let a pod with these labels, of the same namespace, reach that port."""
    selecting = [
        one["spec"]
        for one in of_kind(tuple(objects), "NetworkPolicy")
        if _selects(one["spec"]["podSelector"], to.labels)
    ]
    return not selecting or any(
        "podSelector" in source and _selects(source["podSelector"], labels)
        for policy in selecting
        for rule in policy.get("ingress", ())
        if port in [one["port"] for one in rule["ports"]]
        for source in rule["from"]
    )


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items()) and all(
        labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", ())
    )


@contextmanager
def node(folder: Path, known: dict[str, dict[str, str]]) -> Iterator[Node]:
    """With the image of this tree; at the end nothing is left of it but the image. Skips where no engine is."""
    require_engine()
    build()
    made = Node(folder, known)
    docker("network", "create", "--label", f"{LABEL}={made.name}", made.name)
    try:
        yield made
    finally:
        ours = ("--filter", f"label={LABEL}={made.name}", "--quiet")
        if containers := docker("ps", "--all", *ours).split():
            docker("rm", "--force", "--volumes", *containers)
        docker("network", "rm", made.name)
        if volumes := docker("volume", "ls", *ours).split():
            docker("volume", "rm", *volumes)
