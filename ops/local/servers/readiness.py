"""The two servers together: what both need before they start, and waiting until they are ready."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from scorebeat.core.data_folder import StackUrls
from scorebeat.core.errors import ScorebeatError
from scorebeat.ops.local.data_folder import DataFolder
from scorebeat.ops.local.privileges import Identity, for_servers
from scorebeat.ops.local.processes import Process
from scorebeat.ops.local.servers import postgres, valkey
from scorebeat.ops.local.servers.sockets import close_sockets, open_sockets

READY_WITHIN = 120.0
"""Seconds; a server that was killed replays its log first."""
POLL = 0.05


Chooser = Callable[[Path, Sequence[Path]], Identity]
"""Chooses who runs the servers on a data folder, by the programs that they must reach."""


@dataclass(frozen=True)
class Servers:
    """The servers of a locked data folder, prepared but not started."""

    folder: DataFolder
    sockets: Path
    database: Process
    broker: Process

    @property
    def urls(self) -> StackUrls:
        return StackUrls(postgres.url(self.folder, self.sockets), valkey.url(self.sockets))

    @property
    def database_is_ready(self) -> Callable[[], bool]:
        return partial(postgres.is_ready, self.folder, self.sockets)

    @property
    def broker_is_ready(self) -> Callable[[], bool]:
        return partial(valkey.is_ready, self.sockets)

    def clean(self) -> None:
        """Remove the sockets; call it after both servers are stopped."""
        close_sockets(self.folder, self.sockets)


def prepare(folder: DataFolder, postgres_settings: Mapping[str, str], choose: Chooser = for_servers) -> Servers:
    """Make what the servers need: an owner, a cluster, a socket folder. Raises UsageError."""
    owner = choose(folder.path, [postgres.binaries() / "postgres", valkey.binary()])
    folder.give_to(owner)
    postgres.create_cluster(folder, owner, postgres_settings)
    sockets = open_sockets(folder, owner)
    database = postgres.process(folder, sockets, owner, postgres_settings)
    return Servers(folder, sockets, database, valkey.process(folder, sockets, owner))


def wait_until_ready(name: str, is_ready: Callable[[], bool], ended: Callable[[], str | None]) -> None:
    """Return when the server is ready. Raises ScorebeatError on time-out, or if the server ended, with how."""
    deadline = time.monotonic() + READY_WITHIN
    while not is_ready():
        how = ended()
        if how is not None:
            raise ScorebeatError(f"{name} did not start: {how}")
        if time.monotonic() > deadline:
            raise ScorebeatError(f"{name} does not answer {READY_WITHIN:g} s after its start; it was stopped")
        time.sleep(POLL)
