"""The servers for as long as a `with` block lasts: for the demo, for tests, for one command."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from scorebeat.core.data_folder import StackUrls
from scorebeat.core.errors import SettingsError
from scorebeat.ops.local.data_folder import DataFolder, locked
from scorebeat.ops.local.privileges import for_servers
from scorebeat.ops.local.processes import Child, Process, describe
from scorebeat.ops.local.servers import postgres
from scorebeat.ops.local.servers.readiness import Chooser, prepare, wait_until_ready

LOG_FILE = "servers.log"
TIMES = {"log_line_prefix": "%m "}
"""PostgreSQL writes the times itself: nobody adds them to the lines of a log file."""
LAST_WORDS = 2_000
"""Characters of a server's log that an error shows."""


@contextmanager
def embedded(
    data: Path, *, postgres_settings: Mapping[str, str] | None = None, choose: Chooser = for_servers
) -> Iterator[StackUrls]:
    """Both servers, ready; they are stopped at the end. Other commands find them by `core.data_folder.running_stack`.

    Enter it from a thread that outlives the block (the kernel ends the servers with that thread). Raises
    UsageError if the folder cannot be used or is in use.
    """
    with locked(data) as folder:
        servers = prepare(folder, TIMES | dict(postgres_settings or {}), choose)
        try:
            with (
                _started(folder, servers.database, servers.database_is_ready),
                _started(folder, servers.broker, servers.broker_is_ready),
            ):
                folder.publish(servers.urls)
                yield servers.urls
        finally:
            folder.withdraw()
            servers.clean()


@contextmanager
def database_only(data: Path) -> Iterator[str]:
    """Start PostgreSQL alone, on a folder whose servers do not run. Yields its URL; it is stopped at the end.

    Raises SettingsError if the folder has no database, so that a forgotten variable never makes an empty one.
    """
    if not postgres.has_cluster(data):
        raise SettingsError(
            f"SCOREBEAT_DATABASE_URL is not set, and there is no embedded database in {data}: set it to "
            "postgresql://..., or start the embedded servers with `scorebeat up`"
        )
    with locked(data) as folder:
        servers = prepare(folder, TIMES)
        try:
            with _started(folder, servers.database, servers.database_is_ready):
                yield servers.urls.database_url
        finally:
            servers.clean()


@contextmanager
def _started(folder: DataFolder, process: Process, is_ready: Callable[[], bool]) -> Iterator[None]:
    log = folder.path / LOG_FILE
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as output:
        child = Child(process, output)

        def how_it_ended() -> str | None:
            status = child.ended()
            if status is None:
                return None
            return f"it {describe(status)}; the end of {log}:\n{log.read_text('utf-8', 'replace')[-LAST_WORDS:]}"

        try:
            wait_until_ready(process.name, is_ready, how_it_ended)
            yield
        finally:
            child.stop(hurried=lambda: False)
