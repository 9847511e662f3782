"""Both servers of one data folder, which a test may stop, kill and start again on the same sockets."""

import atexit
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO

from scorebeat.core.data_folder import StackUrls
from scorebeat.ops.local.data_folder import locked
from scorebeat.ops.local.processes import Child, Process
from scorebeat.ops.local.servers.readiness import Servers, prepare, wait_until_ready
from tests.support.fixtures import wait_for
from tests.support.in_memory import in_memory, new_folder
from tests.support.stack_fixtures import UNSAFE_BUT_FAST


class OwnServers:
    """`database` and `broker` are the names that its methods take."""

    def __init__(self, prepared: Servers, output: BinaryIO) -> None:
        self._prepared = prepared
        self._output = output
        self._children: dict[str, Child] = {}

    @property
    def urls(self) -> StackUrls:
        return self._prepared.urls

    @property
    def broker_socket(self) -> str:
        return self.urls.broker_url.partition("://")[2].partition("?")[0]

    def start(self, name: str) -> None:
        """Start `database` or `broker`; returns when it is ready."""
        process: Process = getattr(self._prepared, name)
        child = self._children[name] = Child(process, self._output)
        is_ready = getattr(self._prepared, f"{name}_is_ready")
        wait_until_ready(name, is_ready, lambda: str(child.ended()) if child.ended() is not None else None)

    def send_signal(self, name: str, how: str) -> None:
        """For example SIGSTOP."""
        os.kill(self._children[name].pid, signal.Signals[how])

    def restart(self, name: str, how: str) -> None:
        """End it by a signal such as SIGKILL, and start it when it is gone."""
        self.send_signal(name, how)
        wait_for(lambda: self._children[name].ended() is not None)
        self.start(name)

    def stop(self, name: str) -> None:
        if name in self._children:
            self._children[name].stop(hurried=lambda: False)


@contextmanager
def own_servers(data_folder: Path) -> Iterator[OwnServers]:
    with in_memory(data_folder), locked(data_folder) as folder, (folder.path / "servers.log").open("wb") as output:
        command = ["cp", "-a", *map(str, unused_cluster().iterdir()), str(folder.path)]  # with their owners
        subprocess.run(command, check=True)
        prepared = prepare(folder, UNSAFE_BUT_FAST)
        servers = OwnServers(prepared, output)
        try:
            servers.start("database")
            servers.start("broker")
            yield servers
        finally:
            servers.stop("broker")
            servers.stop("database")
            prepared.clean()


@cache
def unused_cluster() -> Path:
    """A folder with the files of a cluster that no server has used yet, and its password.

    To make them takes a second of CPU, and to copy them a tenth of one.
    """
    made = new_folder()
    atexit.register(shutil.rmtree, made)
    with locked(made / "data") as folder:
        prepare(folder, UNSAFE_BUT_FAST).clean()
    (made / "unused").mkdir()
    for name in ("postgres", "password"):
        (made / "data" / name).rename(made / "unused" / name)
    return made / "unused"
