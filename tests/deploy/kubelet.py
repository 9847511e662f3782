"""A pod's containers as processes of this machine, in the order and with the restarts that Kubernetes gives them."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.deploy.manifests import REPOSITORY, Pod
from tests.fixtures import kill_group

RESTARTS = 20
PAUSE = 2.0
"""Seconds before a container that failed is started again; Kubernetes waits longer."""

Container = dict[str, Any]
Process = subprocess.Popen[bytes]


@dataclass
class Node:
    """Where pods run: what their references to secrets, settings and labels mean here."""

    folder: Path
    secrets: Mapping[str, str]
    """By key."""
    settings: Mapping[str, str]
    """What stands in place of the values of ConfigMaps."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """What is mounted where, by the path in the container."""
    running: list[Process] = field(default_factory=list)

    def start(self, container: Container, log: str, job: str) -> Process:
        environment = {**self._clean(), **self.settings}
        environment |= {v["name"]: self._value(v, job) for v in container.get("env", ()) if self._is_there(v)}
        with (self.folder / f"{log}.log").open("ab") as output:
            process = subprocess.Popen(
                [self._here(word) for word in container["command"]],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.running.append(process)
        return process

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text("utf-8", "replace")

    def logs(self) -> str:
        return "\n".join(
            f"--- {file.name}\n{file.read_text('utf-8', 'replace')[-4000:]}"
            for file in sorted(self.folder.glob("*.log"))
        )

    def end(self) -> None:
        for process in self.running:
            kill_group(process)

    def _here(self, word: str) -> str:
        return str(self.files.get(word, word))

    def _clean(self) -> dict[str, str]:
        """As in an image: its programs first, and nothing of this machine's settings."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        kept = {name: os.environ[name] for name in ("LANG", "TZ") if name in os.environ}
        return {
            **kept,
            "PATH": path,
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
        }

    def _is_there(self, variable: dict[str, Any]) -> bool:
        """Whether it is set: what is taken from an optional key of a secret is not, where the key is missing."""
        source = variable.get("valueFrom", {}).get("secretKeyRef", {})
        return not source.get("optional") or source["key"] in self.secrets

    def _value(self, variable: dict[str, Any], job: str) -> str:
        source = variable.get("valueFrom", {})
        if "secretKeyRef" in source:
            return self.secrets[source["secretKeyRef"]["key"]]
        if "fieldRef" in source:
            assert source["fieldRef"]["fieldPath"] == "metadata.labels['batch.kubernetes.io/job-name']"
            return job
        return str(variable["value"])


class RunningPod:
    """One pod of a Job: started in a thread of its own; `join` answers the last exit code of each container."""

    def __init__(self, node: Node, pod: Pod, job: str, number: int = 0) -> None:
        self._node, self._pod, self._job = node, pod, job
        self._name = f"{job}-{number}"
        self.beside: list[tuple[Container, Process]] = []
        self.exits: dict[str, list[int]] = {}
        """Exit codes of each container that ended, one a start."""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._live)
        self._thread.start()

    def join(self, within: float) -> dict[str, int]:
        self._thread.join(within)
        assert not self._thread.is_alive(), f"{self._name} did not end: {self.exits}\n{self._node.logs()}"
        return {name: codes[-1] for name, codes in self.exits.items()}

    def give_up(self) -> None:
        """No more restarts."""
        self._stopped.set()

    def _live(self) -> None:
        try:
            for container in self._pod.spec.get("initContainers", ()):
                if container.get("restartPolicy") == "Always":
                    self.beside.append((container, self._start(container)))
                else:
                    self._to_its_end(container)
            mains = [threading.Thread(target=self._to_its_end, args=(one,)) for one in self._pod.spec["containers"]]
            for main in mains:
                main.start()
            for main in mains:
                main.join()
        finally:
            self._end_those_beside()

    def _start(self, container: Container) -> Process:
        return self._node.start(container, f"{self._name}-{container['name']}", self._job)

    def _to_its_end(self, container: Container) -> None:
        """Started again until it ends well, as `restartPolicy: OnFailure` has it."""
        assert self._pod.spec["restartPolicy"] == "OnFailure"
        codes = self.exits.setdefault(container["name"], [])
        while not self._stopped.is_set() and len(codes) < RESTARTS:
            codes.append(self._start(container).wait())
            if codes[-1] == 0 or self._stopped.wait(PAUSE):
                return

    def _end_those_beside(self) -> None:
        """The last one first, by SIGTERM; what is left after the grace period is killed."""
        grace = self._pod.spec.get("terminationGracePeriodSeconds", 30)
        for container, process in reversed(self.beside):
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.exits.setdefault(container["name"], []).append(process.wait(grace))
