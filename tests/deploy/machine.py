"""A machine without a container engine that runs docker-compose.yml all the same: each service a process of its own.

The program, its arguments, its environment and its health check are the file's and the Dockerfile's. What an engine
would bring is replaced: host names and ports become those of this machine, paths in a container folders of the
test, and the two images of others are the servers of the embedded stack, on TCP and with their passwords.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from subprocess import Popen

from tests.deploy import processes, servers
from tests.deploy.compose import DONE, File, Service
from tests.deploy.dockerfile import Stage, stages
from tests.deploy.wheel import Installed
from tests.support.fixtures import wait_for

PORTS = {"database": 5432, "broker": 6379, "flower": 5555, "api": 8000}
"""The port of each service in its container."""
STOP = {"database": signal.SIGINT}
"""The signal to stop an image of others that declares another than SIGTERM."""
GPU = {"CUDA_VISIBLE_DEVICES": "0"}
"""The one GPU that the container would get from an engine; nothing is scored on it here."""


@dataclass
class Machine:
    """The services of a file, and what runs of them."""

    file: File
    installed: Installed
    folder: Path
    running: dict[str, "Popen[bytes]"] = field(default_factory=dict)

    def start_all(self) -> None:
        """Each service when those that it waits for are as it wants them; returns when all that go on are healthy."""
        for service in self.file.in_order():
            if service.name == "cli":
                continue
            for name, condition in service.needs.items():
                self._wait(name, condition)
            self.start(service.name)
        for service in self.file.long_running:
            self._wait(service.name, "service_healthy")

    def start(self, name: str) -> None:
        service = self.file.services[name]
        if name == "database":
            servers.make_cluster(self.path("/var/lib/postgresql"), self.environment(service))
        with (self.folder / f"{name}.log").open("ab") as output:
            self.running[name] = Popen(
                self.command(service), cwd=self._directory(service), env=self.environment(service),
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """`docker compose run --rm cli ARGUMENTS`."""
        service = self.file.services["cli"]
        return subprocess.run(
            self.command(service, arguments), cwd=self._directory(service), env=self.environment(service),
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def health(self, name: str) -> "subprocess.CompletedProcess[str]":
        """The service's health check, once; one that takes too long failed, as for an engine."""
        service = self.file.services[name]
        assert service.health is not None
        check, environment = [self._here(word, service) for word in service.health], self.environment(service)
        command = self._found(check, service)
        try:
            return subprocess.run(
                command, cwd=self._directory(service), env=environment,
                capture_output=True, text=True, timeout=service.health_timeout, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 1, "", f"no reply within {service.health_timeout:g} s")

    def stop(self, name: str) -> int | None:
        """As an engine stops it: a signal to its first process, then its grace; returns how it ended, None if not."""
        process = self.running[name]
        process.send_signal(STOP.get(name, signal.SIGTERM))
        with suppress(subprocess.TimeoutExpired):
            process.wait(self.file.services[name].grace)
        return process.poll()

    def kill_all(self) -> None:
        for name in reversed(self.running):
            self.signal(name, signal.SIGKILL)
            self.running[name].wait()

    def signal(self, name: str, number: signal.Signals) -> None:
        """To every process of the service."""
        for pid in self.processes(name):
            with suppress(ProcessLookupError):  # it ended by itself
                os.kill(pid, number)

    def processes(self, name: str) -> list[int]:
        """Ids of all that lives of the service."""
        return processes.of_service(self.running[name].pid, self._mark(name))

    def command(self, service: Service, arguments: tuple[str, ...] | None = None) -> list[str]:
        """Entrypoint and command as the engine joins them: an entrypoint of the file drops the image's command."""
        definition, stage = service.definition, self._stage(service)
        command = list(definition.get("command", []) if arguments is None else arguments)
        if stage is not None and "entrypoint" not in definition:
            whole = [*stage.program("ENTRYPOINT"), *(command or stage.program("CMD"))]
        else:
            whole = [*definition.get("entrypoint", []), *command]
        return self._found([self._here(word, service) for word in whole], service)

    def environment(self, service: Service) -> dict[str, str]:
        """The image's and the file's, and what an engine sets; nothing of this process."""
        stage = self._stage(service)
        own = {**(stage.environment if stage else {}), **service.environment}
        own = {name: self._here(value, service) for name, value in own.items()}
        own[processes.MARK] = self._mark(service.name)
        if stage is None:
            return {**own, **servers.environment(self.ports.get(service.name, 0), self.folder)}
        gpu = GPU if service.name == "gpu-worker" else {}
        return {**own, **gpu, **self.installed.environment(HOME=str(self.path(stage.last("WORKDIR"))))}

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def path(self, target: str) -> Path:
        """The folder of this machine that replaces a path in the containers."""
        return self.folder / "mounted" / target.strip("/").replace("/", "-")

    def logs(self) -> str:
        found = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text('utf-8', 'replace')[-6000:]}" for log in found)

    @cached_property
    def ports(self) -> dict[str, int]:
        """A free port of this machine for each service that listens."""
        probes = {name: socket.create_server(("127.0.0.1", 0)) for name in PORTS}
        found = {name: int(probe.getsockname()[1]) for name, probe in probes.items()}
        for probe in probes.values():
            probe.close()
        return found

    @cached_property
    def folders(self) -> Mapping[str, Path]:
        """Paths in the containers and their replacements, the longest first."""
        targets = {target for service in self.file.services.values() for target in service.mounts}
        for target in targets:
            self.path(target).mkdir(parents=True, exist_ok=True)
        return {target: self.path(target) for target in sorted(targets, key=len, reverse=True)}

    def _here(self, text: str, service: Service) -> str:
        for name, port in PORTS.items():
            text = text.replace(f"@{name}:{port}", f"@127.0.0.1:{self.ports[name]}")
        if service.name in PORTS:
            text = re.sub(rf"\b{PORTS[service.name]}\b", str(self.ports[service.name]), text)
        for target, folder in self.folders.items():
            text = re.sub(rf"^{target}(?=/|$)", str(folder), text)
        return text.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 -- as the file has it

    def _found(self, command: list[str], service: Service) -> list[str]:
        """Its program by the full path: this process' PATH is not the container's."""
        if service.target:
            found = shutil.which(command[0], path=self.installed.environment()["PATH"])
            return [str(found), *command[1:]]
        return servers.command(command, self.ports.get(service.name, 0), self.folder, self.path("/var/lib/postgresql"))

    def _directory(self, service: Service) -> Path:
        """The working directory: the file's, the image's, or the one that both images of others begin in."""
        stage = self._stage(service)
        there = service.definition.get("working_dir") or (
            stage.last("WORKDIR") if stage else next(iter(service.mounts), "/")
        )
        folder = self.folders.get(there, self.path(there))
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _stage(self, service: Service) -> Stage | None:
        return stages()[service.target] if service.target else None

    def _mark(self, name: str) -> str:
        return f"{name}-{self.ports['api']}"

    def _wait(self, name: str, condition: str) -> None:
        if condition == DONE:
            assert self.running[name].wait(60) == 0, self.logs()
        else:
            wait_for(lambda: self._lives(name) and self.health(name).returncode == 0, within=90, every=0.5)

    def _lives(self, name: str) -> bool:
        assert self.running[name].poll() is None, f"{name} ended\n{self.logs()}"
        return True
