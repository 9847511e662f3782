"""Processes that stand still: the parent kills one that is stopped, or waits for a disk that does not answer."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery import bootsteps
from celery.worker import state
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import one_line
from scorebeat.core.events import emit
from scorebeat.core.process.identity import worker_name
from scorebeat.core.queues import SCORE
from scorebeat.core.settings import load_settings
from scorebeat.db.ledger import batches
from scorebeat.worker.lifecycle import deadlines
from scorebeat.worker.lifecycle.connection import ledger

LOOK_EVERY = 1.0
GRACE = 10.0
"""Seconds past a model's deadline, or past SIGKILL, that a process may still exist before the parent acts."""
LEAST_PATIENCE = 10.0
"""Seconds; a disk under load may take some."""
_STANDING = {"T": "stopped by a signal", "D": "waiting for a device that does not answer"}

_ended: dict[int, str] = {}
"""Processes that were killed here, with the reason."""


def reason(pid: int | None) -> str:
    """Why the parent killed this process; empty if it did not."""
    return _ended.get(pid, "") if pid is not None else ""


def kill(pid: int, why: str, level: int = logging.ERROR) -> None:
    """End the process by SIGKILL, in the log and in the ledger for this reason."""
    _ended[pid] = why
    emit("process.killed", level, worker=worker_name(), pid=pid, reason=why)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def processes(parent: Any) -> tuple[int, ...]:
    """Ids of the processes of the worker's pool but for this one; none of a pool that has stopped."""
    try:
        found = parent.pool.info.get("processes", ())
    except AttributeError:
        return ()
    return tuple(pid for pid in found if pid != os.getpid())


class Standstill(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery publishes no types
    """A thread of the parent: a process that stands still cannot watch itself."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._stop = threading.Event()

    def start(self, parent: Any) -> None:
        watch = Watch(lambda: processes(parent), max(LEAST_PATIENCE, load_settings().row_time_limit))
        threading.Thread(target=watch.run, args=(self._stop,), name="standstill", daemon=True).start()

    def terminate(self, parent: Any) -> None:  # noqa: ARG002 -- the bootstep's signature
        self._stop.set()


@dataclass(frozen=True)
class Seen:
    """A process as it was found standing, and since when."""

    signs: tuple[str, ...]
    since: float


class Watch:
    """Looks at all processes of a pool, busy or not, because each of them may get the next message."""

    def __init__(self, processes: Callable[[], Iterable[int]], patience: float) -> None:
        self._processes = processes
        self._patience = patience
        """Seconds that a process may stand still: as long as a model may take for a row."""
        self._standing: dict[int, Seen] = {}
        self._killed: dict[int, float] = {}
        self._looked_at = 0.0

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(LOOK_EVERY):
            try:
                self.look(time.monotonic())
            except Exception as error:  # noqa: BLE001 -- no other thread would look from now on
                emit("standstill.failed", logging.ERROR, reason=one_line(error))

    def look(self, now: float) -> None:
        """Once: kill what stands still, and free the batch of what cannot be killed."""
        if now - self._looked_at > 5 * LOOK_EVERY:  # this process stood still itself
            self._standing.clear()
        self._looked_at = now
        present = set(self._processes())
        self._standing = {pid: seen for pid, seen in self._standing.items() if pid in present}
        for pid in present - self._killed.keys():
            if why := self._reason(pid, now):
                self._killed[pid] = now
                kill(pid, why)
        for pid, killed_at in [*self._killed.items()]:
            if now - killed_at > GRACE:
                del self._killed[pid]
                if pid in present and _signs(pid):
                    _give_up(pid)

    def _reason(self, pid: int, now: float) -> str:
        shared = deadlines.shared()
        limit = shared.of(pid) if shared is not None else None
        if limit is not None and limit.passed(seconds_ago=GRACE):
            return f"its model took longer than its time limit of {limit.seconds:g} s, and its watchdog did not end it"
        signs = _signs(pid)
        if not signs or signs[0] not in _STANDING:
            self._standing.pop(pid, None)
            return ""
        seen = self._standing.get(pid)
        if seen is None or seen.signs != signs:
            self._standing[pid] = Seen(signs, now)
            return ""
        if now - seen.since < self._patience:
            return ""
        return f"it stood still for {now - seen.since:.0f} s: {_STANDING[signs[0]]}"


def _signs(pid: int) -> tuple[str, ...]:
    """Its state, and counters that change whenever it does anything; empty for a process that is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text("utf-8", "replace").splitlines()
    except (OSError, IndexError):
        return ()
    if stat[0] in "ZX":
        return ()
    switches = (line for line in status if "ctxt_switches" in line)
    return (stat[0], stat[11], stat[12], *switches)


def _give_up(pid: int) -> None:
    """Free the batch of a process that even SIGKILL cannot end, because its device does not respond."""
    why = f"process {pid} was killed because {_ended[pid]}, and is not gone"
    emit("process.cannot_be_killed", logging.ERROR, worker=worker_name(), pid=pid, reason=_ended[pid])
    for request in tuple(state.active_requests):
        if request.name == SCORE and getattr(request, "worker_pid", None) == pid:
            try:
                with ledger() as connection:
                    batches.fail_lost(connection, request.args[0], worker_name(), pid, why)
            except DBAPIError as error:
                emit("failure.not_recorded", batch=request.args[0], reason=one_line(error.orig))
