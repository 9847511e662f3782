"""The whole system in one terminal: servers, preparation, Scorebeat's own processes."""

import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from signal import SIGTERM
from typing import TextIO

from scorebeat.core.data_folder import require_both_urls_or_none
from scorebeat.core.errors import SettingsError
from scorebeat.core.settings import PREFIX, Settings
from scorebeat.ops.local.data_folder import locked
from scorebeat.ops.local.interrupts import Interrupts
from scorebeat.ops.local.log import Log
from scorebeat.ops.local.privileges import for_servers
from scorebeat.ops.local.processes import Process
from scorebeat.ops.local.servers.readiness import Chooser, prepare, wait_until_ready
from scorebeat.ops.local.supervisor import Supervisor

FLOWER_PORT = 5555
DRAIN = 70.0
"""Seconds that a worker has to stop; it takes at most 60 (`worker_soft_shutdown_timeout`)."""

Prepare = Callable[[Settings], None]
"""What is done once the servers are ready: migrations, jobs.toml."""


class Interrupted(Exception):
    """A signal came before everything was started."""


def up(
    settings: Settings,
    prepare_database: Prepare,
    processes: Callable[[Settings], Sequence[Process]] | None = None,
    out: TextIO | None = None,
    choose: Chooser = for_servers,
) -> int:
    """Run everything until SIGINT, SIGTERM or SIGHUP; returns 0 after everything is stopped.

    By default `processes` is `own_processes`. Raises UsageError if it cannot start, and what `prepare_database`
    raises; nothing is left running then either.
    """
    log = Log(out or sys.stdout, settings.log_format)
    with Interrupts() as interrupts, Supervisor(log, interrupts) as supervisor:
        try:
            with _with_servers(settings, supervisor, interrupts, choose) as reachable:
                with interrupts.raising():
                    prepare_database(reachable)
                for process in (processes or own_processes)(reachable):
                    supervisor.start(process)
                supervisor.log("all is started; Ctrl-C stops it")
                supervisor.run()
                supervisor.stop()
        except (Interrupted, KeyboardInterrupt):
            supervisor.log("interrupted before everything was started")
    return 0


def own_processes(settings: Settings) -> list[Process]:
    """Beat, a CPU worker, the control worker and Flower, for settings with both URLs."""
    port = _free_port(FLOWER_PORT)
    environment = child_environment(settings)
    # at SIGQUIT a worker finishes its batches, within its soft time-out
    worker = environment | {"REMAP_SIGTERM": "SIGQUIT"}
    # its warnings at the start are about workers that have not started yet
    flower = _celery("flower", "--address=127.0.0.1", "--logging=error", f"--port={port}")
    return [
        Process("control", _scorebeat("worker", "--control"), worker, stop=((SIGTERM, DRAIN),)),
        Process("worker", _scorebeat("worker", "--device", "cpu"), worker, stop=((SIGTERM, DRAIN),)),
        Process("beat", _celery("beat"), environment),
        Process("flower", flower, environment, note=f"Flower: http://127.0.0.1:{port}"),
    ]


def child_environment(settings: Settings) -> dict[str, str]:
    """Our environment with the settings that a child cannot find by itself; so secrets stay out of argv."""
    urls = {"DATABASE_URL": settings.database_url, "BROKER_URL": settings.broker_url}
    own_urls = {f"{PREFIX}{name}": value for name, value in urls.items() if value is not None}
    return {**os.environ, **own_urls, "PYTHONUNBUFFERED": "1"}


@contextmanager
def _with_servers(
    settings: Settings, supervisor: Supervisor, interrupts: Interrupts, choose: Chooser
) -> Iterator[Settings]:
    """The settings with both URLs, whose servers are ready; our own servers are stopped at the end."""
    if settings.database_url is not None and settings.broker_url is not None:
        yield settings
        return
    require_both_urls_or_none(settings)
    with ExitStack() as stack:
        with interrupts.raising():
            folder = stack.enter_context(locked(settings.data))
            servers = prepare(folder, {}, choose)
        stack.callback(servers.clean)
        stack.callback(supervisor.stop)
        stack.callback(folder.withdraw)
        for process, is_ready in (
            (servers.database, servers.database_is_ready),
            (servers.broker, servers.broker_is_ready),
        ):
            supervisor.start(process)
            wait_until_ready(process.name, is_ready, partial(_end, process.name, supervisor, interrupts))
        folder.publish(servers.urls)
        yield settings.model_copy(update=asdict(servers.urls))


def _end(name: str, supervisor: Supervisor, interrupts: Interrupts) -> str | None:
    """How the server of that name ended; None while it runs. Raises Interrupted after a signal to stop."""
    if interrupts.stopping:
        raise Interrupted
    return supervisor.ended(name)


def _celery(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "scorebeat.worker", "--quiet", *arguments)


def _scorebeat(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "scorebeat.ops.cli", *arguments)


def _free_port(preferred: int) -> int:
    """The preferred port of 127.0.0.1, or any free one if that is taken."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise SettingsError("no port of 127.0.0.1 is free for Flower")
