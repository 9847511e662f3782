"""A pod's containers as processes of this machine, in the order and with the restarts of Kubernetes."""

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

from tests.deploy.manifests import Pod
from tests.support.fixtures import kill_group

PAUSE = 2.0
"""Seconds before a container that failed is started again; Kubernetes waits longer."""

Container = dict[str, Any]
Process = subprocess.Popen[bytes]


@dataclass
class Node:
    """The node on which pods run: it resolves their references to secrets, settings and labels."""

    folder: Path
    secrets: Mapping[str, str]
    """By key."""
    settings: Mapping[str, str]
    """The variables that replace the values of ConfigMaps."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """The mounts, by the path in the container."""
    programs: Path = Path(sys.executable).parent
    """The folder of ours; the installed ones, or their forks."""
    running: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        quick = self._quick / "sleep"  # one that hardly does
        quick.parent.mkdir(exist_ok=True)  # a copy of a node has it
        quick.write_text("#!/bin/sh\nexec /bin/sleep 0.5\n")
        quick.chmod(0o755)

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
        """Empty before the container has started."""
        file = self.folder / f"{name}.log"
        return file.read_text("utf-8", "replace") if file.exists() else ""

    def logs(self) -> str:
        return "\n".join(
            f"--- {file.name}\n{file.read_text('utf-8', 'replace')[-4000:]}"
            for file in sorted(self.folder.glob("*.log"))
        )

    def end(self) -> None:
        for process in self.running:
            kill_group(process)

    @property
    def _quick(self) -> Path:
        return self.folder / "quick"

    def _here(self, word: str) -> str:
        return str(self.files.get(word, word))

    def _clean(self) -> dict[str, str]:
        """As in an image: its programs first, and nothing of this machine's settings. Pauses of a shell are short."""
        path = f"{self._quick}:{self.programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        kept = {name: os.environ[name] for name in ("LANG", "TZ") if name in os.environ}
        return {**kept, "PATH": path}

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


class Restarts:
    """How often the containers of a Job were started again, in all of its pods together: Kubernetes sums them so."""

    def __init__(self, limit: int) -> None:
        self.count = 0
        self.too_many = threading.Event()
        """The Job has failed, and its pods are terminated."""
        self._limit, self._lock = limit, threading.Lock()

    def one_more(self) -> bool:
        """Whether the container may be started again."""
        with self._lock:
            self.count += not self.too_many.is_set()
            if self.count >= self._limit:
                self.too_many.set()
        return not self.too_many.is_set()


class RunningPod:
    """One pod of a Job: started in a thread of its own; `join` returns the last exit code of each container.

    Pods of one Job share their `restarts`.
    """

    def __init__(self, node: Node, pod: Pod, job: str, number: int = 0, restarts: Restarts | None = None) -> None:
        assert pod.spec["restartPolicy"] == "OnFailure"
        self._node, self._pod, self._job = node, pod, job
        self._name = f"{job}-{number}"
        self.restarts = restarts or Restarts(pod.backoff_limit)
        self.exits: dict[str, list[int]] = {}
        """Exit codes of each container that ended, one a start."""
        self._beside: list[tuple[Container, threading.Thread]] = []
        self._now: dict[str, Process] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live)
        self._thread.start()

    def join(self, within: float) -> dict[str, int]:
        self._thread.join(within)
        assert not self._thread.is_alive(), f"{self._name} did not end: {self.exits}\n{self._node.logs()}"
        return {name: codes[-1] for name, codes in self.exits.items()}

    def _live(self) -> None:
        try:
            for container in self._pod.spec.get("initContainers", ()):
                if container.get("restartPolicy") == "Always":
                    self._beside.append((container, self._thread_of(container)))
                else:
                    self._run(container)
            for main in [self._thread_of(container) for container in self._pod.spec["containers"]]:
                main.join()
        finally:
            self._over.set()
            self._end_those_beside()

    def _thread_of(self, container: Container) -> threading.Thread:
        thread = threading.Thread(target=self._run, args=(container,))
        thread.start()
        return thread

    def _run(self, container: Container) -> None:
        """Start it again until it ends well, or until the pod is over if it is one beside others."""
        name, codes = container["name"], self.exits.setdefault(container["name"], [])
        while not self.restarts.too_many.is_set():
            self._now[name] = self._node.start(container, f"{self._name}-{name}", self._job)
            codes.append(self._end_of(self._now[name]))
            is_done = self._over.is_set() or (codes[-1] == 0 and container.get("restartPolicy") != "Always")
            if is_done or self._over.wait(PAUSE) or not self.restarts.one_more():
                return

    def _end_of(self, process: Process) -> int:
        while process.poll() is None:
            if self.restarts.too_many.wait(0.1):
                return self._terminate(process)
        return process.returncode

    def _terminate(self, process: Process) -> int:
        """By SIGTERM to the container's first process; what is left after the grace period is killed."""
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(self._pod.spec.get("terminationGracePeriodSeconds", 30))
        kill_group(process)
        return process.returncode

    def _end_those_beside(self) -> None:
        """The last one first."""
        for container, thread in reversed(self._beside):
            self._terminate(self._now[container["name"]])
            thread.join()
